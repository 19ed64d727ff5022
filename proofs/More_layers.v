(* The operations that SiT and ARFlow use beside FlowAR's: one stage each, layer norm four and vector norms two. *)
Require Import ZArith List Lia Bool.
Import ListNotations.
Require Import Cells Tables Arithmetic Layers.
Open Scope Z_scope.

Section More.
Variables (input : Type) (valid : input -> Prop) (numbers : input -> list Z) (n : nat).
Variables (k q : nat) (b : Z).
Hypothesis count : forall u, valid u -> length (numbers u) = n.
Variable a : arithmetic.
Notation p := (p a). Notation f := (f a). Notation P := (P a).
Hypothesis p_positive : 1 <= p.
Hypothesis f_range : 0 <= f < p.
Hypothesis k_two : (2 <= k)%nat.
Let K := Z.of_nat k.
Hypothesis b_large : 256 * K * K * K * P * P * P * P <= b.

Notation can := (can input valid numbers n k q b).
Notation made := (made input valid k b).
Notation wired := (wired input valid).
Notation value := (input -> tab).

Let mul_bound := mul_bound k k_two.
Let clamp_bound := clamp_bound k k_two.
Let narrow_P := narrow_P k a p_positive k_two.
Let quotient_P := quotient_P k a p_positive k_two.
Let sum_bound := sum_bound k k_two.
Let head_of := head_of k k_two.

Let made_one := made_one input valid k b k_two.
Let made_two := made_two input valid k b k_two.
Let made_sum := made_sum input valid k b k_two.
Let can_tab := can_tab input valid numbers n k q b count k_two.

Lemma sum_S d g : sum (S d) g = sum d g + g d.
Proof.
  unfold sum. rewrite seq_S, map_app. cbn [map plus]. unfold add_up. induction (map g (seq 0 d)); cbn [app fold_right]; lia.
Qed.
Lemma sum_scale c d g : c * sum d g = sum d (fun e => c * g e).
Proof. induction d; [unfold sum; cbn; lia|]. rewrite !sum_S, Z.mul_add_distr_l, IHd. auto. Qed.
Lemma sum_ext d g h : (forall e, (e < d)%nat -> g e = h e) -> sum d g = sum d h.
Proof. induction d; intros E; auto. rewrite !sum_S, IHd, E by auto. auto. Qed.

Lemma P2 : 2 <= P. Proof. exact (P_two k a p_positive k_two). Qed.
Lemma bounds : P <= b /\ 256 * (P * P) <= b /\ P * P * P <= b /\ P * P * P * P <= b /\ K * (P * P * P * P) <= b /\ 1 + K * (P * P * P) <= b /\ 1 + K * (P * P) <= b.
Proof. exact (b_bounds k b a p_positive k_two b_large). Qed.
(* 256 k^3 P^2 and 256 k P^2 are within b too *)
Lemma more_bounds : 256 * (K * K * K * (P * P)) <= b /\ 256 * (K * K * (P * P)) <= b /\ 256 * (K * (P * P)) <= b /\ 256 * (K * P) <= b /\ 4 * P <= b.
Proof.
  pose proof P2. assert (2 <= K) by (unfold K; lia). assert (E : 256 * (K * K * K * (P * P)) * (P * P) <= b) by (eapply Z.le_trans; [|exact b_large]; apply Z.eq_le_incl; ring).
  assert (X : forall x, 0 <= x -> x <= x * (P * P)) by (intros x Hx; assert (1 <= P * P) by nia; replace x with (x * 1) at 1 by lia; apply Z.mul_le_mono_nonneg_l; lia). assert (KK : K <= K * K) by nia. assert (KKK : K * K <= K * K * K) by nia. assert (PP : 2 * P <= P * P) by nia.
  assert (Y : 256 * (K * K * K * (P * P)) <= b). { eapply Z.le_trans; [apply X|exact E]. nia. }
  assert (K * K * (P * P) <= K * K * K * (P * P)) by (apply Z.mul_le_mono_nonneg_r; lia).
  assert (K * (P * P) <= K * K * (P * P)) by (apply Z.mul_le_mono_nonneg_r; lia).
  assert (K * P <= K * (P * P)) by (apply Z.mul_le_mono_nonneg_l; lia).
  assert (1 * P <= K * P) by (apply Z.mul_le_mono_nonneg_r; lia). repeat split; lia.
Qed.
Lemma clamp_four x : Z.abs (clamp (p + 2) x) <= 4 * P.
Proof. eapply Z.le_trans; [apply clamp_bound; lia|]. unfold Layers.P. rewrite Z.pow_add_r by lia. lia. Qed.
Lemma bound_of d Vs r c m (x : value) u i j : can d Vs -> In (Table r c m x) Vs -> valid u -> (i < r)%nat -> (j < c)%nat -> Z.abs (x u i j) <= m.
Proof. intros C X U I J. apply (can_bound _ _ _ _ _ _ _ _ _ _ u i j C X U I J). Qed.
Lemma size_bound d m : (d <= k)%nat -> 0 <= m -> Z.of_nat d * m <= K * m.
Proof. intros. apply Z.mul_le_mono_nonneg_r; unfold K; lia. Qed.

(* ---- layer norm ---- *)
Lemma can_totals d Vs t c (x : value) : can d Vs -> In (Table t c P x) Vs -> (c <= k)%nat -> (t <= q)%nat ->
  can (S d) (Table t 1 (K * P) (fun u => totals t c (x u)) :: Vs).
Proof.
  intros C X L Q. pose proof P2. pose proof more_bounds. unfold totals. apply can_tab; auto; [lia|lia|]. intros r j Hr Hj.
  apply made_sum with (d := c) (x := fun e u => x u r e) (y := fun e u => x u r e) (h := fun e v _ => v) (g := fun s => s); auto.
  - intros e He. split; eapply wired_in; eauto.
  - intros u U. split; [reflexivity|]. split.
    + intros e He. pose proof (bound_of _ _ _ _ _ _ u r e C X U Hr He). pose proof bounds. lia.
    + eapply Z.le_trans; [apply sum_bound; intros e He; apply (bound_of _ _ _ _ _ _ u r e C X U Hr He)|]. apply size_bound; auto; lia.
Qed.
Lemma can_centred d Vs t c (x y : value) : can d Vs -> In (Table t c P x) Vs -> In (Table t 1 (K * P) y) Vs -> (c <= k)%nat -> (t * c <= q)%nat ->
  can (S d) (Table t c (2 * (K * P)) (fun u => centred t c (x u) (y u)) :: Vs).
Proof.
  intros C X Y L Q. pose proof P2. pose proof more_bounds. unfold centred. apply can_tab; auto; [lia|]. intros r j Hr Hj.
  apply made_one with (x := fun u => x u r j) (y := fun u => y u r 0%nat) (h := fun v v' => Z.of_nat c * v - v');
    [apply (wired_in _ _ Vs t c P x r j); auto|apply (wired_in _ _ Vs t 1 (K * P) y r 0%nat); auto; lia|lia|].
  intros u U. split; [reflexivity|]. pose proof (bound_of _ _ _ _ _ _ u r j C X U Hr Hj) as B. pose proof (bound_of _ _ _ _ _ _ u r 0%nat C Y U Hr ltac:(lia)) as B'.
  pose proof (mul_bound (Z.of_nat c) _ K P ltac:(unfold K; lia) B). lia.
Qed.
Lemma can_centred_squares d Vs t c (x y : value) : can d Vs -> In (Table t c P x) Vs -> In (Table t 1 (K * P) y) Vs -> (S c <= k)%nat -> (t <= q)%nat ->
  can (S d) (Table t 1 b (fun u => centred_squares t c (x u) (y u)) :: Vs).
Proof.
  intros C X Y L Q. pose proof P2 as H. pose proof more_bounds as (M1 & M2 & M3 & M4 & M5). unfold centred_squares. apply can_tab; auto; [lia|lia|]. intros r j Hr Hj.
  set (D := Z.of_nat c). assert (DK : Z.abs D <= K) by (unfold D, K; lia).
  apply made_sum with (d := S c) (x := fun e u => if (e <? c)%nat then x u r e else y u r 0%nat) (y := fun e u => if (e <? c)%nat then x u r e else y u r 0%nat)
    (h := fun e v v' => if (e <? c)%nat then D * D * (v * v') else - (D * (v * v'))) (g := fun s => s + 1); auto.
  - intros e He. destruct (Nat.ltb_spec e c).
    + split; apply (wired_in _ _ Vs t c P x r e); auto.
    + split; apply (wired_in _ _ Vs t 1 (K * P) y r 0%nat); auto; lia.
  - intros u U. assert (Bx : forall e, (e < c)%nat -> Z.abs (D * D * (x u r e * x u r e)) <= K * K * (P * P)).
    { intros e He. pose proof (bound_of _ _ _ _ _ _ u r e C X U Hr He) as B. apply mul_bound; apply mul_bound; auto. }
    assert (By : Z.abs (D * (y u r 0%nat * y u r 0%nat)) <= K * K * K * (P * P)).
    { pose proof (bound_of _ _ _ _ _ _ u r 0%nat C Y U Hr ltac:(lia)) as B. pose proof (mul_bound _ _ _ _ DK (mul_bound _ _ _ _ B B)).
      replace (K * K * K * (P * P)) with (K * (K * P * (K * P))) by ring. lia. }
    split; [|split].
    + cbv beta zeta. f_equal. rewrite sum_S, Nat.ltb_irrefl. unfold Z.sub. f_equal. rewrite sum_scale. apply sum_ext. intros e He.
      apply Nat.ltb_lt in He. rewrite He. reflexivity.
    + intros e He. destruct (Nat.ltb_spec e c).
      * specialize (Bx e ltac:(lia)). assert (0 <= K * K * (P * P)) by (apply Z.le_trans with (2 := Bx); lia). lia.
      * rewrite Z.abs_opp. assert (0 <= K * K * K * (P * P)) by lia. lia.
    + cbv zeta. assert (Z.abs (D * D * sum c (fun e => x u r e * x u r e)) <= K * K * K * (P * P)).
      { rewrite sum_scale. eapply Z.le_trans; [apply sum_bound with (m := K * K * (P * P)); exact Bx|].
        replace (K * K * K * (P * P)) with (K * (K * K * (P * P))) by ring. apply size_bound; [lia|]. unfold K. nia. }
      fold D. assert (1 <= K * K * K * (P * P)) by (unfold K in *; nia). lia.
Qed.
Lemma can_layer_norm d Vs t c (x : value) : can d Vs -> In (Table t c P x) Vs -> (S c <= k)%nat -> (t <= q)%nat -> (t * c <= q)%nat ->
  can (4 + d) (Table t c P (fun u => layer_norm a t c (x u)) :: Vs).
Proof.
  intros C X L Q Q'. pose proof more_bounds. pose proof bounds. pose proof (can_totals _ _ _ _ x C X ltac:(lia) Q) as C1.
  set (T := fun u => totals t c (x u)) in *.
  pose proof (can_centred_squares _ _ _ _ x T C1 (or_intror X) (or_introl eq_refl) L Q) as C2. set (D := fun u => centred_squares t c (x u) (T u)) in *.
  pose proof (can_centred _ _ _ _ x T C2 (or_intror (or_intror X)) (or_intror (or_introl eq_refl)) ltac:(lia) Q') as C3. set (Y := fun u => centred t c (x u) (T u)) in *.
  eapply can_forget with (Vs := Table t c P (fun u => layer_norm a t c (x u)) :: Table t c (2 * (K * P)) Y :: Table t 1 b D :: Table t 1 (K * P) T :: Vs).
  2: { intros V [<-|V_in]; [left; reflexivity|do 4 right; exact V_in]. }
  unfold layer_norm. apply can_tab; auto; [lia|]. intros r j Hr Hj.
  apply made_one with (x := fun u => Y u r j) (y := fun u => D u r 0%nat) (h := quotient p 2 (p - f) (inverse_root a c)); [| |lia|].
  - apply (wired_in _ _ _ t c (2 * (K * P)) Y r j); auto. left. reflexivity.
  - apply (wired_in _ _ _ t 1 b D r 0%nat); auto. right. left. reflexivity.
  - intros u U. split; [reflexivity|apply quotient_P; auto].
Qed.

(* ---- norms of heads, functions of wide values, sums of rows ---- *)
Lemma can_norm_heads F d Vs t c h e (x : value) : can d Vs -> In (Table t c P x) Vs -> c = (h * e)%nat -> (e <= k)%nat -> (t * h <= q)%nat -> (t * c <= q)%nat ->
  can (2 + d) (Table t c P (fun u => norm_heads a F t c h e (x u)) :: Vs).
Proof.
  intros C X E L Q Q'. subst c. pose proof bounds as Bs. pose proof P2.
  assert (In_ : forall g l, (g < h)%nat -> (l < e)%nat -> (g * e + l < h * e)%nat) by (intros; nia).
  assert (C1 : can (S d) (Table t h b (fun u => head_squares t h e (x u)) :: Vs)).
  { unfold head_squares. apply can_tab; auto; [lia|]. intros r g Hr Hg.
    apply made_sum with (d := e) (x := fun l u => x u r (g * e + l)%nat) (y := fun l u => x u r (g * e + l)%nat) (h := fun _ v v' => v * v') (g := fun s => 1 + s); auto.
    - intros l Hl. split; eapply wired_in; eauto.
    - intros u U. assert (B : forall l, (l < e)%nat -> Z.abs (x u r (g * e + l)%nat * x u r (g * e + l)%nat) <= P * P).
      { intros l Hl. pose proof (bound_of _ _ _ _ _ _ u r _ C X U Hr (In_ g l Hg Hl)) as B. apply mul_bound; exact B. }
      split; [reflexivity|]. split.
      + intros l Hl. specialize (B l Hl). lia.
      + pose proof (sum_bound _ _ _ B). pose proof (size_bound e (P * P) L ltac:(nia)). lia. }
  set (D := fun u => head_squares t h e (x u)) in *.
  eapply can_forget with (Vs := Table t (h * e) P (fun u => norm_heads a F t (h * e) h e (x u)) :: Table t h b D :: Vs).
  2: { intros V [<-|V_in]; [left; reflexivity|right; right; exact V_in]. }
  unfold norm_heads. apply can_tab; auto; [lia|]. intros r j Hr Hj. pose proof (head_of h e j Hj).
  apply made_one with (x := fun u => x u r j) (y := fun u => D u r (j / e)%nat) (h := quotient p 2 (p - f) F); [| |lia|].
  - eapply wired_in; [right; exact X| |]; auto.
  - apply (wired_in _ _ _ t h b D r (j / e)%nat); auto. left. reflexivity.
  - intros u U. split; [reflexivity|apply quotient_P; auto].
Qed.
Lemma can_apply_wide d Vs t c m g (x : value) : can d Vs -> In (Table t c m x) Vs -> (t * c <= q)%nat ->
  can (S d) (Table t c (4 * P) (fun u => apply_wide a t c g (x u)) :: Vs).
Proof.
  intros C X Q. pose proof more_bounds. unfold apply_wide. apply can_tab; auto; [lia|]. intros r j Hr Hj.
  apply made_one with (x := fun u => x u r j) (y := fun u => x u r j) (h := fun v _ => clamp (p + 2) (g v)); try (eapply wired_in; eauto); [lia|].
  intros u U. split; [reflexivity|apply clamp_four].
Qed.
Lemma can_column_sum d Vs t c r (x : value) (upto : nat -> nat) : can d Vs -> In (Table t c (4 * P) x) Vs -> (t <= k)%nat -> (r * c <= q)%nat ->
  (forall i, (i < r)%nat -> (upto i <= t)%nat) ->
  can (S d) (Table r c (4 * (K * P)) (fun u => tabulate r c (fun i j => sum (upto i) (fun l => x u l j))) :: Vs).
Proof.
  intros C X L Q Up. pose proof more_bounds. pose proof P2. apply can_tab; auto; [lia|]. intros i j Hi Hj. specialize (Up i Hi).
  assert (B : forall u l, valid u -> (l < upto i)%nat -> Z.abs (x u l j) <= 4 * P) by (intros u l U Hl; apply (bound_of _ _ _ _ _ _ u l j C X U); auto; lia).
  apply made_sum with (d := upto i) (x := fun l u => x u l j) (y := fun l u => x u l j) (h := fun _ v _ => v) (g := fun s => s); [lia| |].
  - intros l Hl. split; (eapply wired_in; [exact X|lia|auto]).
  - intros u U. split; [reflexivity|]. split.
    + intros l Hl. specialize (B u l U Hl). lia.
    + eapply Z.le_trans; [apply sum_bound; intros l Hl; apply (B u l U Hl)|]. pose proof (size_bound (upto i) (4 * P) ltac:(lia) ltac:(lia)). lia.
Qed.
Lemma can_running d Vs t c (x : value) : can d Vs -> In (Table t c (4 * P) x) Vs -> (t <= k)%nat -> (t * c <= q)%nat ->
  can (S d) (Table t c (4 * (K * P)) (fun u => running t c (x u)) :: Vs).
Proof. intros C X L Q. apply (can_column_sum d Vs t c t x S C X L Q). lia. Qed.
Lemma can_overall d Vs t c (x : value) : can d Vs -> In (Table t c (4 * P) x) Vs -> (t <= k)%nat -> (c <= q)%nat ->
  can (S d) (Table 1 c (4 * (K * P)) (fun u => overall t c (x u)) :: Vs).
Proof. intros C X L Q. apply (can_column_sum d Vs t c 1 x (fun _ => t) C X L); intros; lia. Qed.

(* ---- the state ---- *)
Lemma can_products d Vs t r c len (x y : value) (ix jx iy jy : nat -> nat -> nat -> nat) rx cx ry cy : can d Vs ->
  In (Table rx cx P x) Vs -> In (Table ry cy P y) Vs -> (len <= k)%nat -> (r * c <= q)%nat ->
  (forall i j l, (i < r)%nat -> (j < c)%nat -> (l < len)%nat -> (ix i j l < rx /\ jx i j l < cx /\ iy i j l < ry /\ jy i j l < cy)%nat) -> t = len ->
  can (S d) (Table r c P (fun u => tabulate r c (fun i j => narrow p f (sum t (fun l => x u (ix i j l) (jx i j l) * y u (iy i j l) (jy i j l))))) :: Vs).
Proof.
  intros C X Y L Q I E. subst t. pose proof bounds. pose proof P2. apply can_tab; auto; [lia|]. intros i j Hi Hj.
  apply made_sum with (d := len) (x := fun l u => x u (ix i j l) (jx i j l)) (y := fun l u => y u (iy i j l) (jy i j l)) (h := fun _ v v' => v * v') (g := narrow p f); auto.
  - intros l Hl. destruct (I i j l Hi Hj Hl) as (A1 & A2 & A3 & A4). split; eapply wired_in; eauto.
  - intros u U. split; [reflexivity|]. split; [|apply narrow_P; auto]. intros l Hl. destruct (I i j l Hi Hj Hl) as (A1 & A2 & A3 & A4).
    pose proof (mul_bound _ _ _ _ (bound_of _ _ _ _ _ _ u _ _ C X U A1 A2) (bound_of _ _ _ _ _ _ u _ _ C Y U A3 A4)). lia.
Qed.
Lemma can_outer d Vs t c h e (x y : value) : can d Vs -> In (Table t c P x) Vs -> In (Table t c P y) Vs -> c = (h * e)%nat -> (t <= k)%nat -> (c * e <= q)%nat ->
  can (S d) (Table c e P (fun u => outer a t c e (x u) (y u)) :: Vs).
Proof.
  intros C X Y E L Q. apply (can_products d Vs t c e t x y (fun _ _ l => l) (fun i _ _ => i) (fun _ _ l => l) (fun i j _ => i / e * e + j)%nat t c t c); auto.
  intros i j l Hi Hj Hl. subst c. pose proof (head_of h e i Hi). repeat split; auto. nia.
Qed.
Lemma can_read_state d Vs t c h e (x y : value) : can d Vs -> In (Table t c P x) Vs -> In (Table c e P y) Vs -> c = (h * e)%nat -> (e <= k)%nat -> (t * c <= q)%nat ->
  can (S d) (Table t c P (fun u => read_state a t c e (x u) (y u)) :: Vs).
Proof.
  intros C X Y E L Q. apply (can_products d Vs e t c e x y (fun i _ _ => i) (fun _ j l => j / e * e + l)%nat (fun _ j l => j / e * e + l)%nat (fun _ j _ => j mod e)%nat t c c e); auto.
  intros i j l Hi Hj Hl. subst c. pose proof (head_of h e j Hj). repeat split; auto; [nia|nia|apply Nat.mod_upper_bound; lia].
Qed.
Lemma can_blend d Vs t c (w x y : value) : can d Vs -> In (Table t c (4 * P) w) Vs -> In (Table t c P x) Vs -> In (Table t c P y) Vs -> (t * c <= q)%nat ->
  can (S d) (Table t c P (fun u => blend a t c (w u) (x u) (y u)) :: Vs).
Proof.
  intros C W X Y Q. pose proof bounds. pose proof P2. unfold blend. apply can_tab; auto; [lia|]. intros r j Hr Hj.
  apply made_two with (x := fun u => w u r j) (y := fun u => x u r j) (z := fun u => y u r j) (h := fun v v' => v * v') (h' := fun v _ => v * 2 ^ p)
    (g := narrow p p); try (eapply wired_in; eauto).
  assert (F : Z.abs (2 ^ p) <= P) by (rewrite Z.abs_eq by (apply Z.pow_nonneg; lia); apply Z.le_refl).
  intros u U. pose proof (mul_bound _ _ _ _ (bound_of _ _ _ _ _ _ u r j C W U Hr Hj) (bound_of _ _ _ _ _ _ u r j C X U Hr Hj)) as B.
  pose proof (mul_bound _ _ _ _ (bound_of _ _ _ _ _ _ u r j C Y U Hr Hj) F). replace (4 * P * P) with (4 * (P * P)) in B by ring. repeat split; try lia. apply narrow_P; auto.
Qed.
(* an entry for each head, repeated over the head, and for each row of a state *)
Lemma can_by_head d Vs t c h e m (x : value) : can d Vs -> In (Table t h m x) Vs -> c = (h * e)%nat ->
  can d (Table t c m (fun u => (fun i j => x u i (j / e)%nat) : tab) :: Vs).
Proof. intros C X E. apply can_rearrange; auto. intros i j Hi Hj. exists (Table t h m x), i, (j / e)%nat. subst c. pose proof (head_of h e j Hj). cbn. repeat split; auto; lia. Qed.
Lemma can_by_state d Vs c h e m (x : value) : can d Vs -> In (Table 1 h m x) Vs -> c = (h * e)%nat ->
  can d (Table c e m (fun u => (fun r _ => x u 0%nat (r / e)%nat) : tab) :: Vs).
Proof. intros C X E. apply can_rearrange; auto. intros i j Hi Hj. exists (Table 1 h m x), 0%nat, (i / e)%nat. subst c. pose proof (head_of h e i Hi). cbn. repeat split; auto; lia. Qed.
End More.
