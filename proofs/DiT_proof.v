(* SiT and ARFlow as programs of stages. Their number depends on the numbers of blocks of each kind, halves and steps alone. *)
Require Import ZArith List Lia Bool.
Import ListNotations.
Require Import Cells Tables Arithmetic DiT Layers More_layers.
Open Scope Z_scope.

Definition mixer_stages (l : mixer) : nat := match l with Softmax _ _ => 6 | Hybrid _ _ _ _ _ _ => 30 end.
Definition block_stages (b : block) : nat := (16 + mixer_stages (mixer_of b))%nat.
Definition blocks_stages (bs : list block) : nat := fold_right plus 0%nat (map block_stages bs).

Section Dit.
Variables (input : Type) (valid : input -> Prop) (numbers : input -> list Z) (n : nat).
Variables (k q : nat) (b : Z).
Hypothesis count : forall u, valid u -> length (numbers u) = n.
Variable a : arithmetic.
Hypothesis p_positive : 1 <= p a.
Hypothesis f_range : 0 <= f a < p a.
Hypothesis k_two : (2 <= k)%nat.
Hypothesis b_large : 256 * Z.of_nat k * Z.of_nat k * Z.of_nat k * P a * P a * P a * P a <= b.
Hypothesis q_large : (6 * k * k * k <= q)%nat.

Notation can := (can input valid numbers n k q b).
Notation value := (input -> tab).

Lemma q2 x y : (x <= k)%nat -> (y <= 6 * k)%nat -> (x * y <= q)%nat.
Proof. intros. eapply Nat.le_trans; [|exact q_large]. transitivity (k * (6 * k))%nat; [apply Nat.mul_le_mono; lia|]. nia. Qed.
Lemma q3 x y z : (x <= k)%nat -> (y <= k)%nat -> (z <= k)%nat -> (x * (y * z) <= q)%nat.
Proof. intros. eapply Nat.le_trans; [|exact q_large]. transitivity (k * (k * k))%nat; [repeat apply Nat.mul_le_mono; lia|]. nia. Qed.
Lemma q1 x : (x <= 6 * k)%nat -> (x <= q)%nat.
Proof. intros. eapply Nat.le_trans; [|exact q_large]. nia. Qed.
Lemma P_b : P a <= b.
Proof. exact (proj1 (b_bounds k b a p_positive k_two b_large)). Qed.

Ltac find := solve [eassumption | left; reflexivity | right; find].
Ltac side := first [ assumption | exact P_b | apply q3; lia | apply q2; lia | apply q1; lia | find | lia ].
(* one more operation: the table V of r rows and c columns, called x *)
Ltac add_bounded C L r c m V x :=
  match type of C with can ?d ?Vs =>
    let C' := fresh "C" in
    eassert (C' : can _ (Table r c m V :: Vs)) by (eapply L; try eassumption; side);
    clear C; rename C' into C; let E := fresh "E" in remember V as x eqn:E in C
  end.
Ltac add_table C L r c V x := add_bounded C L r c (P a) V x.
Ltac add_part C rows_ whole cols_ V :=
  match type of C with can ?d ?Vs =>
    let C' := fresh "C" in
    assert (C' : can d (Table rows_ cols_ (P a) V :: Vs)) by (eapply can_part with (c := whole); try eassumption; side); clear C; rename C' into C
  end.

Variable m : model.

(* ---- the two ways of looking around ---- *)
Lemma can_hybrid c Vs t h e lq lk lv lo lz lout (state cond x : value) :
  let d := (h * e)%nat in
  can c Vs -> In (Table d e (P a) state) Vs -> In (Table 1 d (P a) cond) Vs -> In (Table t d (P a) x) Vs ->
  (t <= k)%nat -> (h <= k)%nat -> (d <= k)%nat -> (e <= k)%nat ->
  let r := fun u => hybrid a m t h e lq lk lv lo lz lout (state u) (cond u) (x u) in
  can (30 + c) (Table t d (P a) (fun u => fst (r u)) :: Table d e (P a) (fun u => snd (r u)) :: Vs).
Proof.
  intros d C S_ Co X Lt Lh Ld Le r. assert (Hd : d = (h * e)%nat) by reflexivity. clearbody d. set (K := Z.of_nat k).
  assert (d1 : d = (1 * d)%nat) by lia.
  add_table C can_linear t d (fun u => apply_linear a t d d lq (x u)) q0.
  add_table C can_norm_heads t d (fun u => norm_heads a (inverse_root a d) t d 1 d (q0 u)) qn.
  add_table C can_linear t d (fun u => apply_linear a t d d lk (x u)) k0.
  add_table C can_norm_heads t d (fun u => norm_heads a (key_root m) t d 1 d (k0 u)) kn.
  add_table C can_linear t d (fun u => apply_linear a t d d lv (x u)) v0.
  add_table C can_norm_heads t d (fun u => norm_heads a (inverse_root a d) t d 1 d (v0 u)) vn.
  add_table C can_row t d (fun u => (fun _ j => cond u 0%nat j) : tab) wide.
  add_table C can_add t d (fun u => add a t d (x u) (wide u)) gate_in.
  add_table C can_linear t h (fun u => apply_linear a t d h lz (gate_in u)) gate.
  add_bounded C can_apply_wide t h (4 * P a) (fun u => apply_wide a t h (log_decay m) (gate u)) logs.
  add_bounded C can_running t h (4 * (K * P a)) (fun u => running t h (logs u)) z.
  add_bounded C can_apply_wide t h (4 * P a) (fun u => apply_wide a t h (fun s => decay_of m (narrow (p a) (reach_down m) (s * 2 ^ reach_up m))) (z u)) fade.
  add_bounded C can_overall 1%nat h (4 * (K * P a)) (fun u => overall t h (logs u)) total.
  add_bounded C can_apply_wide 1%nat h (4 * P a) (fun u => apply_wide a 1 h (fun s => decay_of m (narrow (p a) (mean_shift m) (s * mean_factor m))) (total u)) keep.
  add_bounded C can_by_head t d (4 * P a) (fun u => (fun i j => fade u i (j / e)%nat) : tab) fades.
  add_bounded C can_by_state d e (4 * P a) (fun u => (fun r _ => keep u 0%nat (r / e)%nat) : tab) keeps.
  add_table C can_heads t d (fun u => attention a t t h e (qn u) (kn u) (vn u)) inner.
  add_table C can_read_state t d (fun u => read_state a t d e (qn u) (state u)) seen.
  add_table C can_blend t d (fun u => blend a t d (fades u) (seen u) (inner u)) mixed.
  add_table C can_outer d e (fun u => outer a t d e (kn u) (vn u)) new.
  add_table C can_blend d e (fun u => blend a d e (keeps u) (state u) (new u)) next.
  add_table C can_linear t d (fun u => apply_linear a t d d lo (x u)) o0.
  add_table C can_apply t d (fun u => apply a t d (silu a) (o0 u)) opened.
  add_table C can_norm_heads t d (fun u => norm_heads a (inverse_root a e) t d h e (mixed u)) normed.
  add_table C can_multiply t d (fun u => multiply a t d (normed u) (opened u)) joined.
  add_table C can_linear t d (fun u => apply_linear a t d d lout (joined u)) result.
  assert (R : can (30 + c) (Table t d (P a) result :: Table d e (P a) next :: Vs)).
  { eapply can_forget; [exact C|]. intros T [<-|[<-|I]]; find. }
  clear C. subst. exact R.
Qed.
Lemma can_mix c Vs t h e l (state cond x : value) :
  let d := (h * e)%nat in
  can c Vs -> In (Table d e (P a) state) Vs -> In (Table 1 d (P a) cond) Vs -> In (Table t d (P a) x) Vs ->
  (t <= k)%nat -> (h <= k)%nat -> (d <= k)%nat -> (e <= k)%nat ->
  let r := fun u => mix a m t h e l (state u) (cond u) (x u) in
  can (mixer_stages l + c) (Table t d (P a) (fun u => fst (r u)) :: Table d e (P a) (fun u => snd (r u)) :: Vs).
Proof.
  intros d C S_ Co X Lt Lh Ld Le r. destruct l as [qkv proj|lq lk lv lo lz lout].
  2: { unfold r, mix, mixer_stages. exact (can_hybrid c Vs t h e lq lk lv lo lz lout state cond x C S_ Co X Lt Lh Ld Le). }
  assert (Hd : d = (h * e)%nat) by reflexivity. clearbody d.
  add_table C can_linear t (3 * d)%nat (fun u => apply_linear a t d (3 * d) qkv (x u)) row_.
  add_table C can_columns t d (fun u => columns d (row_ u)) kk.
  add_table C can_columns t d (fun u => columns (2 * d) (row_ u)) vv.
  add_part C t (3 * d)%nat d row_.
  add_table C can_heads t d (fun u => attention a t t h e (row_ u) (kk u) (vv u)) mixed.
  add_table C can_linear t d (fun u => apply_linear a t d d proj (mixed u)) result.
  assert (R : can (6 + c) (Table t d (P a) result :: Table d e (P a) state :: Vs)).
  { eapply can_forget; [exact C|]. intros T [<-|[<-|I]]; find. }
  clear C. subst. exact R.
Qed.

(* ---- blocks ---- *)
Lemma can_block c Vs t h e hid bl (opened cond state x : value) :
  let d := (h * e)%nat in
  can c Vs -> In (Table 1 d (P a) opened) Vs -> In (Table 1 d (P a) cond) Vs -> In (Table d e (P a) state) Vs -> In (Table t d (P a) x) Vs ->
  (t <= k)%nat -> (h <= k)%nat -> (S d <= k)%nat -> (e <= k)%nat -> (hid <= k)%nat ->
  let r := fun u => run_block a m t h e hid bl (opened u) (cond u) (state u) (x u) in
  can (block_stages bl + c) (Table t d (P a) (fun u => fst (r u)) :: Table d e (P a) (fun u => snd (r u)) :: Vs).
Proof.
  intros d C O Co S_ X Lt Lh Ld Le Lhid r.
  assert (Hd : d = (h * e)%nat) by reflexivity. assert (Ld' : (d <= k)%nat) by lia.
  add_table C can_linear 1%nat (6 * d)%nat (fun u => apply_linear a 1 d (6 * d) (modulation bl) (opened u)) row.
  add_table C can_row t (6 * d)%nat (fun u => (fun _ j => row u 0%nat j) : tab) row_.
  add_table C can_layer_norm t d (fun u => layer_norm a t d (x u)) x0.
  add_table C can_columns t d (fun u => columns d (row_ u)) m1.
  add_table C can_columns t d (fun u => columns (2 * d) (row_ u)) m2.
  add_table C can_columns t d (fun u => columns (3 * d) (row_ u)) m3.
  add_table C can_columns t d (fun u => columns (4 * d) (row_ u)) m4.
  add_table C can_columns t d (fun u => columns (5 * d) (row_ u)) m5.
  add_part C t (6 * d)%nat d row_.
  add_table C can_fused t d (fun u => fused a t d (x0 u) (m1 u) (row_ u)) inner.
  match type of C with can ?c' ?L => assert (C1 := can_mix c' L t h e (mixer_of bl) state cond inner C ltac:(find) ltac:(find) ltac:(find) Lt Lh Ld' Le) end.
  cbv zeta in C1. change (h * e)%nat with d in C1. clearbody d. clear C. rename C1 into C.
  remember (fun u => mix a m t h e (mixer_of bl) (state u) (cond u) (inner u)) as y eqn:Ey.
  replace (fun u => fst (mix a m t h e (mixer_of bl) (state u) (cond u) (inner u))) with (fun u => fst (y u)) in C by (rewrite Ey; reflexivity).
  replace (fun u => snd (mix a m t h e (mixer_of bl) (state u) (cond u) (inner u))) with (fun u => snd (y u)) in C by (rewrite Ey; reflexivity).
  remember (fun u => fst (y u)) as mixed eqn:Em. remember (fun u => snd (y u)) as next eqn:En.
  add_table C can_fused t d (fun u => fused a t d (m2 u) (mixed u) (x u)) x1.
  add_table C can_layer_norm t d (fun u => layer_norm a t d (x1 u)) x2.
  add_table C can_fused t d (fun u => fused a t d (x2 u) (m4 u) (m3 u)) inner2.
  add_table C can_linear t hid (fun u => apply_linear a t d hid (fc1 bl) (inner2 u)) g1.
  add_table C can_apply t hid (fun u => apply a t hid (gelu a) (g1 u)) g2.
  add_table C can_linear t d (fun u => apply_linear a t hid d (fc2 bl) (g2 u)) g3.
  add_table C can_fused t d (fun u => fused a t d (m5 u) (g3 u) (x1 u)) x3.
  assert (R : can (block_stages bl + c) (Table t d (P a) x3 :: Table d e (P a) next :: Vs)).
  { match type of C with can ?d' _ => replace (block_stages bl + c)%nat with d' by (unfold block_stages; lia) end.
    eapply can_forget; [exact C|]. intros T [<-|[<-|I]]; find. }
  clear C. subst. exact R.
Qed.

Notation D := (width m).
Notation T_ := (tokens m).
Notation E_ := (in_token m).
Hypothesis small : (T_ <= k /\ E_ <= k /\ heads m <= k /\ head_size m <= k /\ S D <= k /\ hidden m <= k /\ S (length (halves m)) <= k)%nat.

(* states of so many blocks are at hand *)
Fixpoint states_in (j : nat) (Vs : list (table input)) (states : input -> list tab) : Prop :=
  match j with
  | O => True
  | S j' => In (Table D (head_size m) (P a) (fun u => hd zero (states u))) Vs /\ states_in j' Vs (fun u => tl (states u))
  end.
Lemma states_incl j Vs Vs' states : incl Vs Vs' -> states_in j Vs states -> states_in j Vs' states.
Proof. intros I. revert states. induction j; simpl; intros states H; auto. destruct H as (A & H). split; auto. Qed.
Lemma can_blocks bs : forall c Vs (opened cond x : value) states, can c Vs -> In (Table 1 D (P a) opened) Vs -> In (Table 1 D (P a) cond) Vs ->
  states_in (length bs) Vs states -> In (Table T_ D (P a) x) Vs ->
  let r := fun u => run_blocks a m bs (opened u) (cond u) (states u) (x u) in
  exists Vs', incl Vs Vs' /\ can (blocks_stages bs + c) Vs' /\ In (Table T_ D (P a) (fun u => fst (r u))) Vs' /\ states_in (length bs) Vs' (fun u => snd (r u)).
Proof.
  induction bs as [|bl bs I]; intros c Vs opened cond x states C O Co S_ X r.
  - exists Vs. repeat split; auto. intros V; auto.
  - destruct S_ as (S1 & S2). destruct small as (H0 & _ & H1 & H2 & H3 & H4 & _).
    assert (C1 := can_block _ _ T_ (heads m) (head_size m) (hidden m) bl opened cond (fun u => hd zero (states u)) x C O Co S1 X H0 H1 H3 H2 H4). cbv zeta in C1.
    match type of C1 with can _ ?L => set (Vs1 := L) in * end.
    assert (I1 : incl Vs Vs1) by (intros V HV; unfold Vs1; do 2 right; exact HV).
    destruct (I _ Vs1 opened cond (fun u => fst (run_block a m T_ (heads m) (head_size m) (hidden m) bl (opened u) (cond u) (hd zero (states u)) (x u))) (fun u => tl (states u)) C1) as (Vs' & I2 & C2 & X' & S'); auto.
    { eapply states_incl; eauto. } { left. reflexivity. }
    exists Vs'. split; [intros V HV; auto|]. split; [|split; [|split]].
    + match type of C2 with can ?d' _ => replace (blocks_stages (bl :: bs) + c)%nat with d' by (unfold blocks_stages; cbn [map fold_right]; lia) end. exact C2.
    + exact X'.
    + apply I2. right; left. reflexivity.
    + exact S'.
Qed.

(* ---- a step ---- *)
Section Label.
Variables (label : input -> Z) (e : Z).
Notation has_label Vs := (In (Table 1 1 e (fun u => (fun _ _ => label u) : tab)) Vs).
Definition velocity_stages := (12 + blocks_stages (blocks m))%nat.
Lemma can_velocity step g c Vs states (x : value) : can c Vs -> has_label Vs -> states_in (length (blocks m)) Vs states -> In (Table T_ E_ (P a) x) Vs ->
  let r := fun u => velocity a m step (g (label u)) (states u) (x u) in
  exists Vs', incl Vs Vs' /\ can (velocity_stages + c) Vs' /\ In (Table T_ E_ (P a) (fun u => fst (r u))) Vs' /\ states_in (length (blocks m)) Vs' (fun u => snd (r u)).
Proof.
  intros C L S_ X r. destruct small as (H0 & HE & H1 & H2 & H3 & H4 & _). assert (H3' : (D <= k)%nat) by lia.
  assert (I0 : incl Vs Vs) by (intros V; auto). set (Vs0 := Vs) in I0 at 1. assert (S0 : states_in (length (blocks m)) Vs0 states) by exact S_. clearbody Vs0.
  add_table C can_look_up 1%nat (width m) (fun u => look_up a D (class_embed m) (g (label u))) row0.
  add_table C can_add_constant 1%nat (width m) (fun u => add_constant a 1 D (row0 u) (fun _ j => time m step j)) cond.
  add_table C can_apply 1%nat (width m) (fun u => apply a 1 D (silu a) (cond u)) opened.
  add_table C can_linear (tokens m) (width m) (fun u => apply_linear a T_ E_ D (patch_embed m) (x u)) x0.
  add_table C can_add_constant (tokens m) (width m) (fun u => add_constant a T_ D (x0 u) (position m)) x1.
  match type of C with can _ ?L => assert (I1 : incl Vs L) by (intros V HV; do 5 right; exact HV);
    destruct (can_blocks (blocks m) _ L opened cond x1 states C) as (Vs1 & J1 & C1 & X1 & T1) end; [find|find|eapply states_incl; eauto|find|].
  clear C. rename C1 into C. assert (I2 : incl Vs Vs1) by (intros V HV; auto).
  assert (O1 : In (Table 1 D (P a) opened) Vs1) by (apply J1; find). clear J1 I1.
  remember (fun u => run_blocks a m (blocks m) (opened u) (cond u) (states u) (x1 u)) as y eqn:Ey.
  replace (fun u => fst (run_blocks a m (blocks m) (opened u) (cond u) (states u) (x1 u))) with (fun u => fst (y u)) in X1 by (rewrite Ey; reflexivity).
  replace (fun u => snd (run_blocks a m (blocks m) (opened u) (cond u) (states u) (x1 u))) with (fun u => snd (y u)) in T1 by (rewrite Ey; reflexivity).
  remember (fun u => fst (y u)) as y1 eqn:Ey1.
  add_table C can_linear 1%nat (2 * width m)%nat (fun u => apply_linear a 1 D (2 * D) (final_modulation m) (opened u)) row1.
  add_table C can_row (tokens m) (2 * width m)%nat (fun u => (fun _ j => row1 u 0%nat j) : tab) wide.
  add_table C can_layer_norm (tokens m) (width m) (fun u => layer_norm a T_ D (y1 u)) y2.
  add_table C can_columns (tokens m) (width m) (fun u => columns D (wide u)) scale.
  add_part C (tokens m) (2 * width m)%nat (width m) wide.
  add_table C can_fused (tokens m) (width m) (fun u => fused a T_ D (y2 u) (scale u) (wide u)) y3.
  add_table C can_linear (tokens m) (in_token m) (fun u => apply_linear a T_ D E_ (final m) (y3 u)) y4.
  match type of C with can _ ?L => exists L; assert (I5 : incl Vs1 L) by (intros V HV; do 7 right; exact HV) end.
  split; [intros V HV; auto|]. split; [|split].
  - match type of C with can ?d' _ => replace (velocity_stages + c)%nat with d' by (unfold velocity_stages; lia) end. exact C.
  - left. subst. reflexivity.
  - eapply states_incl; [exact I5|]. subst. exact T1.
Qed.
Definition draw (step : nat) (x : tab) (u : input) (h : (Z -> Z) * list tab) := velocity a m step (fst h (label u)) (snd h) x.
Lemma can_halves step (x : value) : forall hs (states : list (input -> list tab)), length hs = length states -> forall c Vs, can c Vs -> has_label Vs ->
  Forall (states_in (length (blocks m)) Vs) states -> In (Table T_ E_ (P a) x) Vs ->
  exists Vs' (vs : list value) states', incl Vs Vs' /\ can (length hs * velocity_stages + c) Vs' /\ length vs = length hs /\ length states' = length hs /\
    Forall (fun v => In (Table T_ E_ (P a) v) Vs') vs /\ Forall (states_in (length (blocks m)) Vs') states' /\
    forall u, let drawn := map (draw step (x u) u) (combine hs (map (fun z => z u) states)) in
      map fst drawn = map (fun v => v u) vs /\ map snd drawn = map (fun z => z u) states'.
Proof.
  induction hs as [|h hs I]; intros states Len c Vs C L S_ X; destruct states as [|z states]; try discriminate.
  - exists Vs, [], []. repeat split; auto. intros V; auto.
  - apply Forall_cons_iff in S_ as [S_ Ss]. destruct (can_velocity step h c Vs z x C L S_ X) as (Vs1 & I1 & C1 & X1 & T1).
    set (y := fun u => velocity a m step (h (label u)) (z u) (x u)) in *.
    destruct (I states ltac:(simpl in Len; lia) _ Vs1 C1) as (Vs2 & vs & states' & I2 & C2 & L1 & L2 & F1 & F2 & Eq); auto.
    { eapply Forall_impl; [|exact Ss]. intros z' Z'. eapply states_incl; [|exact Z']. exact I1. }
    exists Vs2, ((fun u => fst (y u)) :: vs), ((fun u => snd (y u)) :: states').
    split; [intros V HV; auto|]. split; [|split; [|split; [|split; [|split]]]]; try (cbn [length]; congruence).
    + match type of C2 with can ?d' _ => replace (length (h :: hs) * velocity_stages + c)%nat with d' by (cbn [length]; lia) end. exact C2.
    + constructor; auto.
    + constructor; auto. eapply states_incl; [|exact T1]. exact I2.
    + intros u. cbn [map combine]. destruct (Eq u) as [E1 E2]. rewrite <- E1, <- E2. split; reflexivity.
Qed.
Definition step_stages := (length (halves m) * velocity_stages + 1)%nat.
Lemma can_euler count_ : forall step c Vs (x : value) states, length (halves m) = length states -> can c Vs -> has_label Vs ->
  Forall (states_in (length (blocks m)) Vs) states -> In (Table T_ E_ (P a) x) Vs ->
  exists Vs' y, can (count_ * step_stages + c) Vs' /\ In (Table T_ E_ (P a) y) Vs' /\
    forall u, y u = euler a m step count_ (label u) (map (fun z => z u) states) (x u).
Proof.
  induction count_ as [|count_ I]; intros step c Vs x states Len C L S_ X.
  - exists Vs, x. repeat split; auto.
  - destruct (can_halves step x (halves m) states Len c Vs C L S_ X) as (Vs1 & vs & states' & I1 & C1 & L1 & L2 & F1 & F2 & Eq).
    destruct small as (H0 & HE & _ & _ & _ & _ & Hh).
    assert (C2 : can (S (length (halves m) * velocity_stages + c)) (Table T_ E_ (P a) (fun u => move a T_ E_ (coefficients_ m step) (map (fun v => v u) vs) (x u)) :: Vs1)).
    { eapply can_move; try eassumption; [apply I1; exact X|lia|side]. }
    destruct (I (S step) _ _ (fun u => move a T_ E_ (coefficients_ m step) (map (fun v => v u) vs) (x u)) states' ltac:(lia) C2) as (Vs2 & y & C3 & Y & E').
    { right. auto. } { eapply Forall_impl; [|exact F2]. intros z Hz. eapply states_incl; [|exact Hz]. intros V HV. right. exact HV. } { left. reflexivity. }
    exists Vs2, y. split; [|split; [exact Y|]].
    + match type of C3 with can ?d' _ => replace (S count_ * step_stages + c)%nat with d' by (unfold step_stages; lia) end. exact C3.
    + intros u. rewrite E'. cbn [euler]. destruct (Eq u) as [E1 E2]. unfold draw in E1, E2. rewrite <- E1, <- E2. reflexivity.
Qed.

(* ---- from pixels to pixels ---- *)
Lemma can_to_tokens c Vs (x : value) : can c Vs -> In (Table (pixels m) (channels m) (P a) x) Vs -> can c (Table T_ E_ (P a) (fun u => to_tokens m (x u)) :: Vs).
Proof.
  intros C X. apply can_rearrange; auto. intros i j Hi Hj. unfold tokens, in_token, pixels, to_tokens in *.
  set (h := grid_rows m) in *. set (w := grid_columns m) in *. set (Q := patch m) in *. set (ch := channels m) in *.
  assert (ch0 : (ch <> 0)%nat) by nia. assert (w0 : (w <> 0)%nat) by nia. assert (Q0 : (Q <> 0)%nat) by nia.
  assert (Ri : (i / w < h)%nat) by (apply Nat.div_lt_upper_bound; lia). assert (Ci : (i mod w < w)%nat) by (apply Nat.mod_upper_bound; lia).
  assert (Jc : (j / ch < Q * Q)%nat) by (apply Nat.div_lt_upper_bound; lia).
  assert (Rj : (j / ch / Q < Q)%nat) by (apply Nat.div_lt_upper_bound; lia). assert (Cj : (j / ch mod Q < Q)%nat) by (apply Nat.mod_upper_bound; lia).
  eexists (Table (h * Q * (w * Q)) ch (P a) x), _, _. cbn. split; [exact X|]. split; [|split; [|split; [lia|intros; reflexivity]]].
  - assert (i / w * Q + j / ch / Q < h * Q)%nat by nia. assert (i mod w * Q + j / ch mod Q < w * Q)%nat by nia. nia.
  - apply Nat.mod_upper_bound. lia.
Qed.
Lemma can_to_pixels c Vs (x : value) : can c Vs -> In (Table T_ E_ (P a) x) Vs -> can c (Table (pixels m) (channels m) (P a) (fun u => to_pixels m (x u)) :: Vs).
Proof.
  intros C X. apply can_rearrange; auto. intros i j Hi Hj. unfold tokens, in_token, pixels, to_pixels in *.
  set (h := grid_rows m) in *. set (w := grid_columns m) in *. set (Q := patch m) in *. set (ch := channels m) in *.
  assert (w0 : (w <> 0)%nat) by nia. assert (Q0 : (Q <> 0)%nat) by nia. assert (wQ : (w * Q <> 0)%nat) by nia.
  assert (Ri : (i / (w * Q) < h * Q)%nat) by (apply Nat.div_lt_upper_bound; lia). assert (Ci : (i mod (w * Q) < w * Q)%nat) by (apply Nat.mod_upper_bound; lia).
  set (row := (i / (w * Q))%nat) in *. set (col := (i mod (w * Q))%nat) in *.
  assert (R1 : (row / Q < h)%nat) by (apply Nat.div_lt_upper_bound; lia). assert (C1 : (col / Q < w)%nat) by (apply Nat.div_lt_upper_bound; lia).
  assert (R2 : (row mod Q < Q)%nat) by (apply Nat.mod_upper_bound; lia). assert (C2 : (col mod Q < Q)%nat) by (apply Nat.mod_upper_bound; lia).
  eexists (Table (h * w) (Q * Q * ch) (P a) x), _, _. cbn. split; [exact X|]. split; [|split; [|split; [lia|intros; reflexivity]]].
  - nia.
  - assert (row mod Q * Q + col mod Q < Q * Q)%nat by nia. nia.
Qed.
Definition dit_stages := (1 + steps_ m * step_stages)%nat.
Theorem can_dit c Vs (noise : value) : can c Vs -> has_label Vs -> In (Table (pixels m) (channels m) (P a) noise) Vs ->
  exists Vs' y, can (dit_stages + c) Vs' /\ In (Table (pixels m) (channels m) (P a) y) Vs' /\
    forall u, y u = to_pixels m (euler a m 0 (steps_ m) (label u) (map (fun _ => []) (halves m)) (to_tokens m (noise u))).
Proof.
  intros C L N.
  assert (C1 : can c (Table T_ E_ (P a) (fun u => to_tokens m (noise u)) :: Vs)) by (apply can_to_tokens; auto).
  destruct small as (H0 & HE & H1 & H2 & H3 & _).
  assert (Z_ : can (S c) (Table D (head_size m) (P a) (fun _ => zero) :: Table T_ E_ (P a) (fun u => to_tokens m (noise u)) :: Vs)).
  { apply can_stage; auto; [apply q2; lia|exact P_b|]. intros i j Hi Hj. exists [], (fun s => s). split; [cbn; lia|]. split; [constructor|].
    intros u U. split; [reflexivity|]. split; [constructor|]. unfold zero. pose proof (P_two k a p_positive k_two). lia. }
  destruct (can_euler (steps_ m) 0 (S c) _ (fun u => to_tokens m (noise u)) (map (fun _ => fun _ => []) (halves m)) ltac:(rewrite map_length; reflexivity) Z_) as (Vs' & y & C2 & Y & E).
  { right; right. exact L. }
  { rewrite Forall_map. apply Forall_forall. intros g _. induction (length (blocks m)) as [|j J]; cbn [states_in]; auto. split; [left; reflexivity|exact J]. }
  { right; left. reflexivity. }
  exists (Table (pixels m) (channels m) (P a) (fun u => to_pixels m (y u)) :: Vs'), (fun u => to_pixels m (y u)). split; [|split; [left; reflexivity|]].
  - match type of C2 with can ?d' _ => replace (dit_stages + c)%nat with d' by (unfold dit_stages; lia) end. apply can_to_pixels; [exact C2|exact Y].
  - intros u. cbv beta. rewrite E. rewrite map_map. reflexivity.
Qed.
End Label.
End Dit.
