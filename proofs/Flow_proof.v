(* FlowAR as a program of stages. Their number depends on the numbers of blocks, scales and steps alone. *)
Require Import ZArith List Lia Bool.
Import ListNotations.
Require Import Cells Tables Arithmetic FlowAR Layers.
Open Scope Z_scope.

Section Flow.
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
Proof. eapply (b_bounds k b a); eauto. Qed.

Ltac find := solve [eassumption | left; reflexivity | right; find].
Ltac side := first [ assumption | exact P_b | apply q3; lia | apply q2; lia | apply q1; lia | find | lia ].
(* one more operation: the table V of r rows and c columns, called x *)
Ltac add_table C L r c V x :=
  match type of C with can ?d ?Vs =>
    let C' := fresh "C" in
    eassert (C' : can _ (Table r c (P a) V :: Vs)) by (eapply L; try eassumption; side);
    clear C; rename C' into C; let E := fresh "E" in remember V as x eqn:E in C
  end.

Ltac add_part C rows_ whole cols_ V :=
  match type of C with can ?d ?Vs =>
    let C' := fresh "C" in
    assert (C' : can d (Table rows_ cols_ (P a) V :: Vs)) by (eapply can_part with (c := whole); try eassumption; side); clear C; rename C' into C
  end.

Lemma can_block c Vs t s h e hid rot own l (mo : value) (seen : input -> tab * tab) (x : value) :
  let d := (h * (2 * e))%nat in
  can c Vs -> In (Table t (6 * d) (P a) mo) Vs -> In (Table s d (P a) (fun u => fst (seen u))) Vs ->
  In (Table s d (P a) (fun u => snd (seen u))) Vs -> In (Table t d (P a) x) Vs ->
  (s + t <= k)%nat -> (h <= k)%nat -> (d <= k)%nat -> (2 * e <= k)%nat -> (hid <= k)%nat ->
  let r := fun u => run_block a t s h e hid rot own l (mo u) (seen u) (x u) in
  can (21 + c) (Table t d (P a) (fun u => fst (r u)) :: Table (s + t) d (P a) (fun u => fst (snd (r u))) ::
    Table (s + t) d (P a) (fun u => snd (snd (r u))) :: Vs).
Proof.
  intros d C M S1 S2 X Lt Lh Ld Le Lhid r.
  assert (D2 : exists y, d = (y * 2)%nat) by (exists (h * e)%nat; unfold d; lia).
  remember (fun u => fst (seen u)) as s1 eqn:Es1. remember (fun u => snd (seen u)) as s2 eqn:Es2.
  assert (Hd : d = (h * (2 * e))%nat) by reflexivity. clearbody d.
  add_table C can_rms_norm t d (fun u => rms_norm a t d (x u)) x1.
  add_table C can_columns t d (fun u => columns (2 * d) (mo u)) m2.
  add_table C can_columns t d (fun u => columns (4 * d) (mo u)) m4.
  add_table C can_columns t d (fun u => columns (3 * d) (mo u)) m3.
  add_table C can_columns t d (fun u => columns (5 * d) (mo u)) m5.
  add_table C can_columns t d (fun u => columns d (mo u)) m1.
  add_table C can_fused t d (fun u => fused a t d (x1 u) (m2 u) (m4 u)) inner.
  add_table C can_linear t (3 * d)%nat (fun u => apply_linear a t d (3 * d) (qkv l) (inner u)) joined.
  add_table C can_columns t d (fun u => columns d (joined u)) kk.
  add_table C can_columns t d (fun u => columns (2 * d) (joined u)) vv.
  add_part C t (3 * d)%nat d joined. add_part C t (6 * d)%nat d mo.
  add_table C can_rotate t d (fun u => rotate a t d e rot own (joined u)) qr.
  add_table C can_rotate t d (fun u => rotate a t d e rot own (kk u)) kr.
  add_table C can_below (s + t)%nat d (fun u => below s (s1 u) (kr u)) k2.
  add_table C can_below (s + t)%nat d (fun u => below s (s2 u) (vv u)) v2.
  add_table C can_heads t d (fun u => attention a t (s + t) h (2 * e) (qr u) (k2 u) (v2 u)) mixed.
  add_table C can_linear t d (fun u => apply_linear a t d d (proj l) (mixed u)) projected.
  add_table C can_fused t d (fun u => fused a t d (mo u) (projected u) (x u)) y1.
  add_table C can_rms_norm t d (fun u => rms_norm a t d (y1 u)) y2.
  add_table C can_fused t d (fun u => fused a t d (y2 u) (m3 u) (m5 u)) inner2.
  add_table C can_linear t hid (fun u => apply_linear a t d hid (gate l) (inner2 u)) g1.
  add_table C can_apply t hid (fun u => apply a t hid (gelu a) (g1 u)) g2.
  add_table C can_linear t hid (fun u => apply_linear a t d hid (FlowAR.value l) (inner2 u)) g3.
  add_table C can_multiply t hid (fun u => multiply a t hid (g2 u) (g3 u)) g4.
  add_table C can_linear t d (fun u => apply_linear a t hid d (out_ l) (g4 u)) g5.
  add_table C can_fused t d (fun u => fused a t d (m1 u) (g5 u) (y1 u)) y3.
  assert (R : can (21 + c) (Table t d (P a) y3 :: Table (s + t) d (P a) k2 :: Table (s + t) d (P a) v2 :: Vs)).
  { eapply can_forget; [exact C|]. intros T [<-|[<-|[<-|I]]]; find. }
  clear C. subst. exact R.
Qed.

(* ---- the whole model ---- *)
Variable m : model.
Notation D := (width m).
Notation FW := (flow_width m).
Notation C_ := (channels m).
Hypothesis small : (all_tokens m <= k /\ C_ <= k /\ heads m <= k /\ 2 * pairs_of m <= k /\ D <= k /\ hidden m <= k /\
  flow_heads m <= k /\ 2 * flow_pairs m <= k /\ FW <= k /\ flow_hidden m <= k /\ S (length (halves m)) <= k)%nat.

(* keys and values of so many blocks are at hand *)
Fixpoint seen_in (j s : nat) (Vs : list (table input)) (seen : input -> list (tab * tab)) : Prop :=
  match j with
  | O => True
  | S j' => In (Table s D (P a) (fun u => fst (hd (zero, zero) (seen u)))) Vs /\ In (Table s D (P a) (fun u => snd (hd (zero, zero) (seen u)))) Vs
      /\ seen_in j' s Vs (fun u => tl (seen u))
  end.
Lemma seen_incl j s Vs Vs' seen : incl Vs Vs' -> seen_in j s Vs seen -> seen_in j s Vs' seen.
Proof. intros I. revert seen. induction j; simpl; intros seen H; auto. destruct H as (A & B & H). repeat split; auto. Qed.
Definition all_seen (s : nat) (Vs : list (table input)) (seen : input -> list (tab * tab) * list (tab * tab)) :=
  seen_in (length (encoder m)) s Vs (fun u => fst (seen u)) /\ seen_in (length (decoder m)) s Vs (fun u => snd (seen u)).
Lemma all_seen_incl s Vs Vs' seen : incl Vs Vs' -> all_seen s Vs seen -> all_seen s Vs' seen.
Proof. intros I [A B]. split; eapply seen_incl; eauto. Qed.

Lemma can_same d Vs r c e (V V' : value) : can d Vs -> In (Table r c e V) Vs -> (forall u, valid u -> V' u = V u) -> can d (Table r c e V' :: Vs).
Proof. intros C I E. eapply can_rearrange; eauto. intros i j Hi Hj. exists (Table r c e V), i, j. cbn. repeat split; auto; try lia. intros. rewrite E; auto. Qed.
Lemma incl_step (V : table input) Vs Vs' : incl (V :: Vs) Vs' -> incl Vs Vs'.
Proof. intros I x Hx. apply I. right. exact Hx. Qed.

Section Label.
Variables (label : input -> Z) (e : Z).
Notation has_label Vs := (In (Table 1 1 e (fun u => (fun _ _ => label u) : tab)) Vs).

Lemma can_blocks t s start g bs : (s + t <= k)%nat -> forall c Vs seen (x : value), can c Vs -> has_label Vs -> seen_in (length bs) s Vs seen ->
  In (Table t D (P a) x) Vs ->
  let r := fun u => run_blocks a m t s start (g (label u)) bs (seen u) (x u) in
  exists Vs', incl Vs Vs' /\ can (length bs * 22 + c) Vs' /\ In (Table t D (P a) (fun u => fst (r u))) Vs' /\ seen_in (length bs) (s + t) Vs' (fun u => snd (r u)).
Proof.
  intros Lt. induction bs as [|bl bs I]; intros c Vs seen x C L S X r.
  - exists Vs. repeat split; auto. intros V; auto.
  - destruct S as (S1 & S2 & S3).
    assert (C1 : can (1 + c) (Table 1 (6 * D) (P a) (fun u => look_up a (6 * D) (by_label bl) (g (label u))) :: Vs)) by (eapply can_look_up; try eassumption; side).
    remember (fun u => look_up a (6 * D) (by_label bl) (g (label u))) as row eqn:Er.
    assert (C2 : can (1 + c) (Table t (6 * D) (P a) (fun u => (fun _ j => row u 0%nat j) : tab) :: Table 1 (6 * D) (P a) row :: Vs)) by (eapply can_row; try eassumption; side).
    remember (fun u => (fun _ j => row u 0%nat j) : tab) as mo eqn:Em.
    destruct small as (_ & _ & H1 & H2 & H3 & H4 & _).
    assert (C3 := can_block _ _ t s (heads m) (pairs_of m) (hidden m) (from start (rotation m)) (rotation_own m start) (inside bl) mo (fun u => hd (zero, zero) (seen u)) x C2
      (or_introl eq_refl) (or_intror (or_intror S1)) (or_intror (or_intror S2)) (or_intror (or_intror X)) Lt H1 H3 H2 H4). cbv zeta in C3.
    remember (fun u => run_block a t s (heads m) (pairs_of m) (hidden m) (from start (rotation m)) (rotation_own m start) (inside bl) (mo u) (hd (zero, zero) (seen u)) (x u)) as y eqn:Ey.
    replace (fun u => fst (run_block a t s (heads m) (pairs_of m) (hidden m) (from start (rotation m)) (rotation_own m start) (inside bl) (mo u) (hd (zero, zero) (seen u)) (x u))) with (fun u => fst (y u)) in C3 by (rewrite Ey; reflexivity).
    replace (fun u => fst (snd (run_block a t s (heads m) (pairs_of m) (hidden m) (from start (rotation m)) (rotation_own m start) (inside bl) (mo u) (hd (zero, zero) (seen u)) (x u)))) with (fun u => fst (snd (y u))) in C3 by (rewrite Ey; reflexivity).
    replace (fun u => snd (snd (run_block a t s (heads m) (pairs_of m) (hidden m) (from start (rotation m)) (rotation_own m start) (inside bl) (mo u) (hd (zero, zero) (seen u)) (x u)))) with (fun u => snd (snd (y u))) in C3 by (rewrite Ey; reflexivity).
    match type of C3 with can _ ?L => set (Vs1 := L) in * end.
    assert (I1 : incl Vs Vs1) by (intros V HV; unfold Vs1; do 5 right; exact HV).
    destruct (I _ Vs1 (fun u => tl (seen u)) (fun u => fst (y u)) C3) as (Vs' & I2 & C4 & X' & S'); auto.
    { eapply seen_incl; eauto. } { left. reflexivity. }
    exists Vs'. split; [intros V HV; auto|]. split; [|split].
    + replace (length (bl :: bs) * 22 + c)%nat with (length bs * 22 + (21 + (1 + c)))%nat by (simpl; lia). exact C4.
    + subst y mo row. exact X'.
    + cbn [length seen_in]. split; [|split].
      * subst y mo row. apply I2. right; left. reflexivity.
      * subst y mo row. apply I2. do 2 right; left. reflexivity.
      * subst y mo row. exact S'.
Qed.

Definition transformer_stages := (13 + 22 * (length (encoder m) + length (decoder m)))%nat.
Lemma can_transformer t s g : (s + t <= k)%nat -> forall c Vs seen (x : value), can c Vs -> has_label Vs -> all_seen s Vs seen ->
  In (Table t D (P a) x) Vs ->
  let r := fun u => transformer a m t s (g (label u)) (seen u) (x u) in
  exists Vs', incl Vs Vs' /\ can (transformer_stages + c) Vs' /\ In (Table t D (P a) (fun u => fst (r u))) Vs' /\ all_seen (s + t) Vs' (fun u => snd (r u)).
Proof.
  intros Lt c Vs seen x C L [S1 S2] X r. destruct small as (_ & _ & H1 & H2 & H3 & H4 & _).
  assert (I0 : incl Vs Vs) by (intros V; auto). set (Vs0 := Vs) in I0 at 1. assert (L0 : In (Table 1 1 e (fun u => (fun _ _ => label u) : tab)) Vs0) by exact L.
  assert (S20 : seen_in (length (decoder m)) s Vs0 (fun u => snd (seen u))) by exact S2. clearbody Vs0.
  add_table C can_add_constant t (width m) (fun u => add_constant a t D (x u) (from s (encoder_position m))) x1.
  add_table C can_rms_norm t (width m) (fun u => rms_norm a t D (x1 u)) x1'.
  add_table C can_weigh t (width m) (fun u => weigh a t D (input_norm m) (x1' u)) x2.
  match type of C with can _ ?L => assert (I1 : incl Vs L) by (intros V HV; do 3 right; exact HV);
    destruct (can_blocks t s s g (encoder m) Lt _ L (fun u => fst (seen u)) x2 C) as (Vs1 & J1 & C1 & X1 & T1) end.
  { do 3 right. exact L. } { eapply seen_incl; eauto. } { left. reflexivity. }
  clear C. rename C1 into C. assert (I2 : incl Vs Vs1) by (intros V HV; auto). clear J1 I1.
  remember (fun u => run_blocks a m t s s (g (label u)) (encoder m) (fst (seen u)) (x2 u)) as r1 eqn:Er1.
  replace (fun u => fst (run_blocks a m t s s (g (label u)) (encoder m) (fst (seen u)) (x2 u))) with (fun u => fst (r1 u)) in X1 by (rewrite Er1; reflexivity).
  replace (fun u => snd (run_blocks a m t s s (g (label u)) (encoder m) (fst (seen u)) (x2 u))) with (fun u => snd (r1 u)) in T1 by (rewrite Er1; reflexivity).
  remember (fun u => fst (r1 u)) as f1 eqn:Ef1.
  add_table C can_rms_norm t (width m) (fun u => rms_norm a t D (f1 u)) x3'.
  add_table C can_weigh t (width m) (fun u => weigh a t D (encoder_norm m) (x3' u)) x3.
  add_table C can_linear t (width m) (fun u => apply_linear a t D D (decoder_proj m) (x3 u)) x4.
  add_table C can_add_constant t (width m) (fun u => add_constant a t D (x4 u) (from s (decoder_position m))) x5.
  match type of C with can _ ?L => assert (I3 : incl Vs1 L) by (intros V HV; do 4 right; exact HV);
    destruct (can_blocks t s s g (decoder m) Lt _ L (fun u => snd (seen u)) x5 C) as (Vs2 & J2 & C2 & X2 & T2) end.
  { do 4 right. auto. } { eapply seen_incl; [|exact S2]. intros V HV; auto. } { left. reflexivity. }
  clear C. rename C2 into C. assert (I4 : incl Vs1 Vs2) by (intros V HV; auto). clear J2 I3.
  remember (fun u => run_blocks a m t s s (g (label u)) (decoder m) (snd (seen u)) (x5 u)) as r2 eqn:Er2.
  replace (fun u => fst (run_blocks a m t s s (g (label u)) (decoder m) (snd (seen u)) (x5 u))) with (fun u => fst (r2 u)) in X2 by (rewrite Er2; reflexivity).
  replace (fun u => snd (run_blocks a m t s s (g (label u)) (decoder m) (snd (seen u)) (x5 u))) with (fun u => snd (r2 u)) in T2 by (rewrite Er2; reflexivity).
  remember (fun u => fst (r2 u)) as f2 eqn:Ef2.
  add_table C can_rms_norm t (width m) (fun u => rms_norm a t D (f2 u)) x6'.
  add_table C can_weigh t (width m) (fun u => weigh a t D (decoder_norm m) (x6' u)) x6.
  add_table C can_add_constant t (width m) (fun u => add_constant a t D (x6 u) (from s (semantics_position m))) x7.
  match type of C with can _ ?L => exists L; assert (I5 : incl Vs2 L) by (intros V HV; do 3 right; exact HV) end.
  split; [intros V HV; auto|]. split; [|split; [|split]].
  - match type of C with can ?d _ => replace (transformer_stages + c)%nat with d by (unfold transformer_stages; lia) end. exact C.
  - left. subst. reflexivity.
  - eapply seen_incl; [|subst; exact T1]. intros V HV; auto.
  - eapply seen_incl; [|subst; exact T2]. intros V HV; auto.
Qed.
End Label.

(* ---- the flow head ---- *)
Lemma can_flow_blocks t start bs : (t <= k)%nat -> forall c Vs (cond x : value), can c Vs -> In (Table t FW (P a) cond) Vs -> In (Table t FW (P a) x) Vs ->
  exists Vs', incl Vs Vs' /\ can (length bs * 22 + c) Vs' /\ In (Table t FW (P a) (fun u => flow_blocks a m t start (cond u) bs (x u))) Vs'.
Proof.
  intros Lt. induction bs as [|bl bs I]; intros c Vs cond x C Co X.
  - exists Vs. repeat split; auto. intros V; auto.
  - destruct small as (_ & _ & _ & _ & _ & _ & H1 & H2 & H3 & H4 & _).
    assert (C1 : can (1 + c) (Table t (6 * FW) (P a) (fun u => apply_linear a t FW (6 * FW) (by_condition bl) (cond u)) :: Vs)) by (eapply can_linear; try eassumption; side).
    remember (fun u => apply_linear a t FW (6 * FW) (by_condition bl) (cond u)) as mo eqn:Em.
    assert (C2 : can (1 + c) (Table 0 FW (P a) (fun _ => zero) :: Table t (6 * FW) (P a) mo :: Vs)) by (eapply can_nothing; try eassumption; side).
    assert (C3 := can_block _ _ t 0 (flow_heads m) (flow_pairs m) (flow_hidden m) (from start (flow_rotation m)) (flow_rotation_own m start) (flow_inside bl) mo (fun _ => (zero, zero)) x C2
      (or_intror (or_introl eq_refl)) (or_introl eq_refl) (or_introl eq_refl) (or_intror (or_intror X)) Lt H1 H3 H2 H4). cbv zeta in C3.
    match type of C3 with can _ ?L => set (Vs1 := L) in * end.
    assert (I1 : incl Vs Vs1) by (intros V HV; unfold Vs1; do 5 right; exact HV).
    destruct (I _ Vs1 cond (fun u => fst (run_block a t 0 (flow_heads m) (flow_pairs m) (flow_hidden m) (from start (flow_rotation m)) (flow_rotation_own m start) (flow_inside bl) (mo u) (zero, zero) (x u))) C3) as (Vs' & I2 & C4 & X'); auto.
    { left. reflexivity. }
    exists Vs'. split; [intros V HV; auto|]. split.
    + replace (length (bl :: bs) * 22 + c)%nat with (length bs * 22 + (21 + (1 + c)))%nat by (simpl; lia). exact C4.
    + subst mo. exact X'.
Qed.
Definition velocity_stages := (8 + 22 * length (flow m))%nat.
Lemma can_velocity t start step : (t <= k)%nat -> forall c Vs (y x : value), can c Vs -> In (Table t FW (P a) y) Vs -> In (Table t C_ (P a) x) Vs ->
  exists Vs', incl Vs Vs' /\ can (velocity_stages + c) Vs' /\ In (Table t C_ (P a) (fun u => velocity a m t start step (y u) (x u))) Vs'.
Proof.
  intros Lt c Vs y x C Y X. destruct small as (_ & H0 & _ & _ & _ & _ & H1 & H2 & H3 & H4 & _).
  add_table C can_add_constant t (flow_width m) (fun u => add_constant a t FW (y u) (fun _ j => time m step j)) c1.
  add_table C can_apply t (flow_width m) (fun u => apply a t FW (silu a) (c1 u)) cond.
  add_table C can_linear t (flow_width m) (fun u => apply_linear a t C_ FW (flow_input m) (x u)) x1.
  match type of C with can _ ?L => assert (I1 : incl Vs L) by (intros V HV; do 3 right; exact HV);
    destruct (can_flow_blocks t start (flow m) Lt _ L cond x1 C) as (Vs1 & J1 & C1 & X1) end; [side|side|].
  assert (Co : In (Table t FW (P a) cond) Vs1) by (apply J1; side).
  clear C. rename C1 into C. assert (I2 : incl Vs Vs1) by (intros V HV; auto). clear J1 I1.
  remember (fun u => flow_blocks a m t start (cond u) (flow m) (x1 u)) as x2 eqn:Ex2.
  add_table C can_linear t (2 * FW)%nat (fun u => apply_linear a t FW (2 * FW) (final m) (cond u)) both_.
  add_table C can_columns t (flow_width m) (fun u => columns FW (both_ u)) scale.
  add_part C t (2 * FW)%nat (flow_width m) both_.
  add_table C can_rms_norm t (flow_width m) (fun u => rms_norm a t FW (x2 u)) x3.
  add_table C can_fused t (flow_width m) (fun u => fused a t FW (x3 u) (scale u) (both_ u)) x4.
  add_table C can_linear t (channels m) (fun u => apply_linear a t FW C_ (output_ m) (x4 u)) x5.
  match type of C with can _ ?L => exists L; assert (I5 : incl Vs1 L) by (intros V HV; do 6 right; exact HV) end.
  split; [intros V HV; auto|]. split.
  - match type of C with can ?d _ => replace (velocity_stages + c)%nat with d by (unfold velocity_stages; lia) end. exact C.
  - left. subst. reflexivity.
Qed.
Lemma can_velocities t start step : (t <= k)%nat -> forall (ys : list value) c Vs (x : value), can c Vs -> Forall (fun y => In (Table t FW (P a) y) Vs) ys -> In (Table t C_ (P a) x) Vs ->
  exists Vs', incl Vs Vs' /\ can (length ys * velocity_stages + c) Vs' /\
    Forall (fun v => In (Table t C_ (P a) v) Vs') (map (fun y => fun u => velocity a m t start step (y u) (x u)) ys).
Proof.
  intros Lt. induction ys as [|y ys I]; intros c Vs x C Y X.
  - exists Vs. repeat split; auto. intros V; auto. constructor.
  - apply Forall_cons_iff in Y as [Y Ys]. destruct (can_velocity t start step Lt c Vs y x C Y X) as (Vs1 & I1 & C1 & V1).
    destruct (I _ Vs1 x C1) as (Vs2 & I2 & C2 & V2); auto.
    { eapply Forall_impl; [|exact Ys]. intros z Hz. auto. }
    exists Vs2. split; [intros V HV; auto|]. split.
    + replace (length (y :: ys) * velocity_stages + c)%nat with (length ys * velocity_stages + (velocity_stages + c))%nat by (simpl; lia). exact C2.
    + cbn [map]. constructor; auto.
Qed.
Lemma can_euler t start scale (ys : list value) : (t <= k)%nat -> (S (length ys) <= k)%nat -> forall count_ step c Vs (x : value), can c Vs ->
  Forall (fun y => In (Table t FW (P a) y) Vs) ys -> In (Table t C_ (P a) x) Vs ->
  exists Vs' y, incl Vs Vs' /\ can (count_ * (length ys * velocity_stages + 1) + c) Vs' /\ In (Table t C_ (P a) y) Vs' /\
    forall u, y u = euler a m t start scale step count_ (map (fun y => y u) ys) (x u).
Proof.
  intros Lt Ly. destruct small as (_ & H0 & _).
  induction count_ as [|count_ I]; intros step c Vs x C Y X.
  - exists Vs, x. repeat split; auto. intros V; auto.
  - destruct (can_velocities t start step Lt ys c Vs x C Y X) as (Vs1 & I1 & C1 & V1).
    set (vs := map (fun y => fun u => velocity a m t start step (y u) (x u)) ys) in *.
    assert (C2 : can (S (length ys * velocity_stages + c)) (Table t C_ (P a) (fun u => move a t C_ (coefficients_ m scale step) (map (fun v => v u) vs) (x u)) :: Vs1)).
    { eapply can_move; try eassumption; [auto|unfold vs; rewrite map_length; exact Ly|side]. }
    destruct (I (S step) _ _ (fun u => move a t C_ (coefficients_ m scale step) (map (fun v => v u) vs) (x u)) C2) as (Vs2 & y & I2 & C3 & Y2 & E).
    { eapply Forall_impl; [|exact Y]. intros z Hz. right. auto. } { left. reflexivity. }
    exists Vs2, y. split; [intros V HV; apply I2; right; auto|]. split; [|split]; auto.
    + match type of C3 with can ?d _ => replace (S count_ * (length ys * velocity_stages + 1) + c)%nat with d by lia end. exact C3.
    + intros u. rewrite E. cbn [euler]. f_equal. f_equal. unfold vs. rewrite !map_map. reflexivity.
Qed.

(* ---- scale by scale ---- *)
Section Scales.
Variables (label : input -> Z) (e : Z).
Notation has_label Vs := (In (Table 1 1 e (fun u => (fun _ _ => label u) : tab)) Vs).
Definition read_in (scale t r : nat) (g : Z -> Z) (before : tab) (u : input) : tab :=
  match scale with O => first_tokens a m (g (label u)) | _ => next_tokens a m scale t r before end.
Lemma can_read scale t r g c Vs (before : value) : (t <= k)%nat -> (r <= k)%nat -> can c Vs -> has_label Vs ->
  (scale = O \/ In (Table r C_ (P a) before) Vs) ->
  exists Vs', incl Vs Vs' /\ can (2 + c) Vs' /\ In (Table t D (P a) (fun u => read_in scale t r g (before u) u)) Vs'.
Proof.
  intros Lt Lr C L B. destruct small as (_ & H0 & H1 & H2 & H3 & _). destruct scale as [|scale].
  - assert (C1 : can (1 + c) (Table 1 D (P a) (fun u => look_up a D (class_embed m) (g (label u))) :: Vs)) by (eapply can_look_up; try eassumption; side).
    apply can_wait in C1; auto.
    assert (C2 : can (2 + c) (Table t D (P a) (fun u => read_in 0 t r g (before u) u) :: Table 1 D (P a) (fun u => look_up a D (class_embed m) (g (label u))) :: Vs)).
    { change (fun u => read_in 0 t r g (before u) u) with (fun u => (fun _ j => (fun u => look_up a D (class_embed m) (g (label u))) u 0%nat j) : tab).
      eapply can_row; try eassumption. left. reflexivity. }
    eexists. split; [|split; [exact C2|left; reflexivity]]. intros V HV. do 2 right. exact HV.
  - destruct B as [B|B]; [discriminate|].
    add_table C can_resample t (channels m) (fun u => resample a t r C_ (resampling m (S scale)) (resampling_own m (S scale)) (before u)) x1.
    add_table C can_linear t (width m) (fun u => apply_linear a t C_ D (input_ m) (x1 u)) x2.
    eexists. split; [|split; [exact C|left; subst; reflexivity]]. intros V HV. do 2 right. exact HV.
Qed.

Definition draw (scale t s r : nat) (before : tab) (u : input) (h : (Z -> Z) * (list (tab * tab) * list (tab * tab))) :=
  transformer a m t s (fst h (label u)) (snd h) (read_in scale t r (fst h) before u).
Definition half_stages := (3 + transformer_stages)%nat.
Lemma can_halves scale t s r (before : value) : (s + t <= k)%nat -> (r <= k)%nat -> forall hs (seens : list (input -> list (tab * tab) * list (tab * tab))),
  length hs = length seens -> forall c Vs, can c Vs -> has_label Vs -> (scale = O \/ In (Table r C_ (P a) before) Vs) -> Forall (all_seen s Vs) seens ->
  exists Vs' (ys : list value) seens', incl Vs Vs' /\ can (length hs * half_stages + c) Vs' /\ length ys = length hs /\ length seens' = length hs /\
    Forall (fun y => In (Table t FW (P a) y) Vs') ys /\ Forall (all_seen (s + t) Vs') seens' /\
    forall u, let drawn := map (draw scale t s r (before u) u) (combine hs (map (fun z => z u) seens)) in
      map (fun y => apply_linear a t D FW (condition m) (fst y)) drawn = map (fun y => y u) ys /\ map snd drawn = map (fun z => z u) seens'.
Proof.
  intros Lt Lr. induction hs as [|h hs I]; intros seens Len c Vs C L B S; destruct seens as [|z seens]; try discriminate.
  - exists Vs, [], []. repeat split; auto. intros V; auto.
  - apply Forall_cons_iff in S as [S Ss]. destruct (can_read scale t r h c Vs before ltac:(lia) Lr C L B) as (Vs1 & I1 & C1 & X1).
    destruct (can_transformer label e t s h Lt _ Vs1 z _ C1 (I1 _ L) (all_seen_incl _ _ _ _ I1 S) X1) as (Vs2 & I2 & C2 & X2 & S2).
    set (y := fun u => transformer a m t s (h (label u)) (z u) (read_in scale t r h (before u) u)) in *.
    destruct small as (_ & H0 & _ & _ & H3 & _ & _ & _ & H4 & _).
    assert (C3 : can (1 + (transformer_stages + (2 + c))) (Table t FW (P a) (fun u => apply_linear a t D FW (condition m) (fst (y u))) :: Vs2)).
    { eapply can_linear; try eassumption; side. }
    match type of C3 with can _ ?L => destruct (I seens ltac:(simpl in Len; lia) _ L C3) as (Vs3 & ys & seens' & I3 & C4 & L1 & L2 & F1 & F2 & E) end.
    { right. auto. } { destruct B as [B|B]; [left; exact B|right; right; auto]. }
    { eapply Forall_impl; [|exact Ss]. intros z' Z'. eapply all_seen_incl; [|exact Z']. intros V HV. right. auto. }
    exists Vs3, ((fun u => apply_linear a t D FW (condition m) (fst (y u))) :: ys), ((fun u => snd (y u)) :: seens').
    split; [intros V HV; apply I3; right; auto|]. split; [|split; [|split; [|split; [|split]]]]; try (cbn [length]; congruence).
    + match type of C4 with can ?d _ => replace (length (h :: hs) * half_stages + c)%nat with d by (cbn [length]; unfold half_stages; lia) end. exact C4.
    + constructor; auto. apply I3. left. reflexivity.
    + constructor; auto. eapply all_seen_incl; [|exact S2]. intros V HV. apply I3. right. auto.
    + intros u. cbn [map combine]. destruct (E u) as [E1 E2]. rewrite <- E1, <- E2. split; reflexivity.
Qed.

Definition scale_stages := (length (halves m) * half_stages + steps_ m * (length (halves m) * velocity_stages + 1))%nat.
Lemma can_scale scale t s r c Vs (noise before : value) seens : (s + t <= k)%nat -> (r <= k)%nat -> length (halves m) = length seens ->
  can c Vs -> has_label Vs -> (scale = O \/ In (Table r C_ (P a) before) Vs) -> Forall (all_seen s Vs) seens -> In (Table t C_ (P a) noise) Vs ->
  exists Vs' y seens', incl Vs Vs' /\ can (scale_stages + c) Vs' /\ length (halves m) = length seens' /\ In (Table t C_ (P a) y) Vs' /\ Forall (all_seen (s + t) Vs') seens' /\
    forall u, one_scale a m scale t s r (label u) (noise u) (map (fun z => z u) seens) (before u) = (y u, map (fun z => z u) seens').
Proof.
  intros Lt Lr Len C L B S N.
  destruct (can_halves scale t s r before Lt Lr (halves m) seens Len c Vs C L B S) as (Vs1 & ys & seens' & I1 & C1 & L1 & L2 & F1 & F2 & E).
  destruct small as (_ & _ & _ & _ & _ & _ & _ & _ & _ & _ & Lh).
  destruct (can_euler t s scale ys ltac:(lia) ltac:(lia) (steps_ m) 0 _ Vs1 noise C1 F1 (I1 _ N)) as (Vs2 & y & I2 & C2 & Y & E').
  exists Vs2, y, seens'. split; [intros V HV; auto|]. split; [|split; [lia|split; [auto|split]]].
  - match type of C2 with can ?d _ => replace (scale_stages + c)%nat with d by (unfold scale_stages; rewrite L1; lia) end. exact C2.
  - eapply Forall_impl; [|exact F2]. intros z Hz. eapply all_seen_incl; eauto.
  - intros u. destruct (E u) as [E1 E2]. rewrite E', <- E1, <- E2. reflexivity.
Qed.

Lemma can_scales ts : forall scale s r c Vs (noise before : value) seens, (s + fold_right plus 0 ts <= k)%nat -> (r <= k)%nat -> length (halves m) = length seens ->
  can c Vs -> has_label Vs -> ((scale = O /\ ts <> []) \/ In (Table r C_ (P a) before) Vs) -> Forall (all_seen s Vs) seens ->
  In (Table (s + fold_right plus 0 ts)%nat C_ (P a) noise) Vs ->
  exists Vs' y, incl Vs Vs' /\ can (length ts * scale_stages + c) Vs' /\ In (Table (List.last ts r) C_ (P a) y) Vs' /\
    forall u, y u = scales a m scale s r ts (label u) (noise u) (map (fun z => z u) seens) (before u).
Proof.
  induction ts as [|t ts I]; intros scale s r c Vs noise before seens Ls Lr Len C L B S N.
  - exists Vs, before. cbn in B. destruct B as [[_ B]|B]; [congruence|]. repeat split; auto. intros V; auto.
  - cbn [fold_right] in *.
    assert (C1 : can c (Table t C_ (P a) (fun u => from s (noise u)) :: Vs)) by (eapply can_rows; try eassumption; lia).
    destruct (can_scale scale t s r c _ (fun u => from s (noise u)) before seens ltac:(lia) Lr Len C1) as (Vs1 & y & seens' & I1 & C2 & Len' & Y & S' & E).
    { right. exact L. } { destruct B as [[B _]|B]; [left; exact B|right; right; exact B]. }
    { eapply Forall_impl; [|exact S]. intros z Hz. eapply all_seen_incl; [|exact Hz]. intros V HV. right. exact HV. } { left. reflexivity. }
    destruct (I (Datatypes.S scale) (s + t)%nat t (scale_stages + c)%nat Vs1 noise y seens') as (Vs2 & y' & I2 & C3 & Y' & E'); auto; try lia.
    { apply I1. right. exact L. }
    { apply I1. right. replace (s + t + fold_right plus 0 ts)%nat with (s + (t + fold_right plus 0 ts))%nat by lia. exact N. }
    exists Vs2, y'. split; [intros V HV; apply I2, I1; right; exact HV|]. split; [|split].
    + match type of C3 with can ?d _ => replace (length (t :: ts) * scale_stages + c)%nat with d by (cbn [length]; lia) end. exact C3.
    + replace (List.last (t :: ts) r) with (List.last ts t); [exact Y'|]. destruct ts as [|t' ts]; [reflexivity|]. cbn [List.last].
      clear. revert t'. induction ts; intros; [reflexivity|]. cbn [List.last]. apply IHts.
    + intros u. rewrite E'. cbn [scales]. rewrite E. reflexivity.
Qed.
Definition flowar_stages := (length (tokens m) * scale_stages)%nat.
Theorem can_flowar c Vs (noise : value) : tokens m <> [] -> can c Vs -> has_label Vs -> In (Table (all_tokens m) C_ (P a) noise) Vs ->
  exists Vs' y, can (flowar_stages + c) Vs' /\ In (Table (List.last (tokens m) 0%nat) C_ (P a) y) Vs' /\
    forall u, y u = scales a m 0 0 0 (tokens m) (label u) (noise u) (map (fun _ => ([], [])) (halves m)) zero.
Proof.
  intros T C L N.
  assert (C1 : can c (Table 0 D (P a) (fun _ => zero) :: Vs)) by (eapply can_nothing; try eassumption).
  destruct small as (Ht & _).
  destruct (can_scales (tokens m) 0 0 0 c _ noise (fun _ => zero) (map (fun _ => fun _ => ([], [])) (halves m)) Ht ltac:(lia) ltac:(rewrite map_length; reflexivity) C1) as (Vs' & y & I & C2 & Y & E).
  { right. exact L. } { left. auto. }
  { rewrite Forall_map. apply Forall_forall. intros h _. split.
    - induction (length (encoder m)) as [|j J]; cbn [seen_in]; auto. split; [left; reflexivity|split; [left; reflexivity|exact J]].
    - induction (length (decoder m)) as [|j J]; cbn [seen_in]; auto. split; [left; reflexivity|split; [left; reflexivity|exact J]]. }
  { right. exact N. }
  exists Vs', y. split; [exact C2|]. split; [exact Y|]. intros u. rewrite E. rewrite map_map. reflexivity.
Qed.
End Scales.
End Flow.
