(* Each operation on tables is one stage of cells: its circuit has depth 3, whatever the sizes. *)
Require Import ZArith List Lia Bool.
Import ListNotations.
Require Import Cells Tables Arithmetic.
Open Scope Z_scope.

Section Layers.
Variables (input : Type) (valid : input -> Prop) (numbers : input -> list Z) (n : nat).
Variables (k q : nat) (b : Z).
Hypothesis count : forall u, valid u -> length (numbers u) = n.
Variable a : arithmetic.
Notation p := (p a). Notation f := (f a).
Definition P := 2 ^ p.
Hypothesis p_positive : 1 <= p.
Hypothesis f_range : 0 <= f < p.
Hypothesis k_two : (2 <= k)%nat.
Let K := Z.of_nat k.
Hypothesis b_large : 256 * K * K * K * P * P * P * P <= b.

Notation can := (can input valid numbers n k q b).
Notation made := (made input valid k b).
Notation wired := (wired input valid).
Notation value := (input -> tab).

Lemma P_two : 2 <= P.
Proof. unfold P. replace 2 with (2 ^ 1) at 1 by lia. apply Z.pow_le_mono_r; lia. Qed.
Lemma mul_bound x y A B : Z.abs x <= A -> Z.abs y <= B -> Z.abs (x * y) <= A * B.
Proof. intros. rewrite Z.abs_mul. apply Z.mul_le_mono_nonneg; lia. Qed.
Lemma mono x y x' y' : 0 <= x <= x' -> 0 <= y <= y' -> x * y <= x' * y'.
Proof. intros. apply Z.mul_le_mono_nonneg; lia. Qed.
Lemma b_P4 : 256 * (K * K * K) * (P * P * P * P) <= b.
Proof. replace (256 * (K * K * K) * (P * P * P * P)) with (256 * K * K * K * P * P * P * P) by ring. exact b_large. Qed.
Lemma K3 : K <= K * K * K /\ 8 <= K * K * K.
Proof. assert (2 <= K) by (unfold K; lia). nia. Qed.
Lemma P4 : 16 <= P * P * P * P /\ P <= P * P * P * P /\ P * P <= P * P * P * P /\ P * P * P <= P * P * P * P.
Proof. pose proof P_two. assert (4 <= P * P) by nia. assert (P * P * 4 <= P * P * (P * P)) by (apply Z.mul_le_mono_nonneg_l; lia). nia. Qed.
Lemma b_KP4 : 256 * K * (P * P * P * P) <= b.
Proof. eapply Z.le_trans; [|apply b_P4]. pose proof K3. pose proof P4. apply Z.mul_le_mono_nonneg_r; lia. Qed.
Lemma b_bounds : P <= b /\ 256 * (P * P) <= b /\ P * P * P <= b /\ P * P * P * P <= b /\ K * (P * P * P * P) <= b
  /\ 1 + K * (P * P * P) <= b /\ 1 + K * (P * P) <= b.
Proof.
  pose proof b_KP4. pose proof P4. pose proof K3. assert (2 <= K) by (unfold K; lia).
  assert (K * (P * P) <= K * (P * P * P * P)) by (apply Z.mul_le_mono_nonneg_l; lia).
  assert (K * (P * P * P) <= K * (P * P * P * P)) by (apply Z.mul_le_mono_nonneg_l; lia).
  assert (2 * (P * P * P * P) <= K * (P * P * P * P)) by (apply Z.mul_le_mono_nonneg_r; lia).
  repeat split; lia.
Qed.
Lemma clamp_bound c x : 1 <= c -> Z.abs (clamp c x) <= 2 ^ c.
Proof.
  intros. unfold clamp. replace c with (Z.succ (c - 1)) at 3 by lia. rewrite Z.pow_succ_r by lia.
  assert (0 < 2 ^ (c - 1)) by (apply Z.pow_pos_nonneg; lia). lia.
Qed.
Lemma clamp_P x : Z.abs (clamp p x) <= P.
Proof. apply clamp_bound. exact p_positive. Qed.
Lemma narrow_P s x : Z.abs (narrow p s x) <= P.
Proof. apply clamp_P. Qed.
Lemma quotient_P r s F x y : Z.abs (quotient p r s F x y) <= P.
Proof. apply clamp_P. Qed.

Lemma tabulate_in r c (g : tab) i j : (i < r)%nat -> (j < c)%nat -> tabulate r c g i j = g i j.
Proof.
  intros. unfold tabulate. rewrite (nth_indep _ [] (map (g 0%nat) (seq 0 c))) by (rewrite map_length, seq_length; lia).
  rewrite (map_nth (fun i => map (g i) (seq 0 c))), seq_nth by lia. simpl.
  rewrite (nth_indep _ 0 (g i 0%nat)) by (rewrite map_length, seq_length; lia). rewrite map_nth, seq_nth by lia. auto.
Qed.
Lemma sum_bound d g m : (forall e, (e < d)%nat -> Z.abs (g e) <= m) -> Z.abs (sum d g) <= Z.of_nat d * m.
Proof.
  intros H. unfold sum. eapply Z.le_trans; [apply add_up_bound with (m := m)|rewrite map_length, seq_length; lia].
  rewrite Forall_map. apply Forall_forall. intros e E. apply in_seq in E. apply H. lia.
Qed.

(* ---- entries made by one cell ---- *)
Lemma wired_in Vs r c m V i j : In (Table r c m V) Vs -> (i < r)%nat -> (j < c)%nat -> wired Vs (fun u => V u i j).
Proof. intros. exists (Table r c m V), i, j. auto. Qed.
Lemma made_sum Vs m d (x y : nat -> input -> Z) (h : nat -> Z -> Z -> Z) (g : Z -> Z) (F : input -> Z) : (d <= k)%nat ->
  (forall e, (e < d)%nat -> wired Vs (x e) /\ wired Vs (y e)) ->
  (forall u, valid u -> F u = g (sum d (fun e => h e (x e u) (y e u)))
    /\ (forall e, (e < d)%nat -> Z.abs (h e (x e u) (y e u)) <= b) /\ Z.abs (F u) <= m) -> made Vs m F.
Proof.
  intros D W E. exists (map (fun e => (x e, y e, h e)) (seq 0 d)), g. rewrite map_length, seq_length. split; auto. split.
  - rewrite Forall_map. apply Forall_forall. intros e He. apply in_seq in He. apply W. lia.
  - intros u U. destruct (E u U) as (A & B & C). split; [|split]; auto.
    + rewrite map_map. exact A.
    + rewrite Forall_map. apply Forall_forall. intros e He. apply in_seq in He. apply B. lia.
Qed.
Lemma made_one Vs m (x y : input -> Z) (h : Z -> Z -> Z) (F : input -> Z) : wired Vs x -> wired Vs y -> m <= b ->
  (forall u, valid u -> F u = h (x u) (y u) /\ Z.abs (F u) <= m) -> made Vs m F.
Proof.
  intros X Y M E. apply (made_sum Vs m 1 (fun _ => x) (fun _ => y) (fun _ => h) (fun s => s)); auto; try lia.
  intros u U. destruct (E u U) as [A B]. unfold sum. cbn [seq map add_up fold_right]. rewrite Z.add_0_r. rewrite <- A. repeat split; auto. intros. lia.
Qed.
Lemma made_two Vs m (x y z : input -> Z) (h h' : Z -> Z -> Z) (g : Z -> Z) (F : input -> Z) : wired Vs x -> wired Vs y -> wired Vs z ->
  (forall u, valid u -> F u = g (h (x u) (y u) + h' (z u) (z u)) /\ Z.abs (h (x u) (y u)) <= b /\ Z.abs (h' (z u) (z u)) <= b /\ Z.abs (F u) <= m) -> made Vs m F.
Proof.
  intros X Y Z_ E. apply (made_sum Vs m 2 (fun e => match e with O => x | _ => z end) (fun e => match e with O => y | _ => z end)
    (fun e => match e with O => h | _ => h' end) g); auto.
  - intros [|e] _; auto.
  - intros u U. destruct (E u U) as (A & B & C & D). unfold sum. cbn [seq map add_up fold_right]. rewrite Z.add_0_r. repeat split; auto.
    intros [|e] _; auto.
Qed.
Lemma head_of h e c : (c < h * e)%nat -> (c / e < h)%nat.
Proof. intros. apply Nat.div_lt_upper_bound; nia. Qed.
Lemma can_tab d Vs r c m (V : value) : can d Vs -> (r * c <= q)%nat -> m <= b ->
  (forall i j, (i < r)%nat -> (j < c)%nat -> made Vs m (fun u => V u i j)) ->
  can (S d) (Table r c m (fun u => tabulate r c (V u)) :: Vs).
Proof.
  intros C Q M H. apply can_stage; auto. intros i j Hi Hj. destruct (H i j Hi Hj) as (ts & g & L & W & E).
  exists ts, g. split; auto. split; auto. intros u U. rewrite tabulate_in by auto. auto.
Qed.

(* ---- the operations ---- *)
Lemma can_linear d Vs t i o m l (x : value) : can d Vs -> In (Table t i P x) Vs -> (i <= k)%nat -> (t * o <= q)%nat -> P <= m -> m <= b ->
  can (S d) (Table t o m (fun u => apply_linear a t i o l (x u)) :: Vs).
Proof.
  intros C X L Q M Mb. unfold apply_linear. apply can_tab; auto. intros r c Hr Hc.
  apply made_sum with (d := i) (x := fun e u => x u r e) (y := fun e u => x u r e) (h := fun e v _ => v * clamp p (weight l c e))
    (g := fun s => narrow p (own l) (s + bias l c * 2 ^ own l)); auto.
  - intros e He. split; eapply wired_in; eauto.
  - intros u U. split; [reflexivity|]. split; [|eapply Z.le_trans; [apply narrow_P|auto]].
    intros e He. eapply Z.le_trans; [apply mul_bound; [apply (can_bound _ _ _ _ _ _ _ _ _ _ u r e C X); auto|apply clamp_P]|].
    cbn. pose proof b_bounds. pose proof P_two. nia.
Qed.
Lemma can_add d Vs t c (x y : value) : can d Vs -> In (Table t c P x) Vs -> In (Table t c P y) Vs -> (t * c <= q)%nat ->
  can (S d) (Table t c P (fun u => add a t c (x u) (y u)) :: Vs).
Proof.
  intros C X Y Q. pose proof b_bounds. unfold add. apply can_tab; auto; [lia|]. intros r j Hr Hj.
  apply made_one with (x := fun u => x u r j) (y := fun u => y u r j) (h := fun v v' => clamp p (v + v')); try (eapply wired_in; eauto); [lia|].
  intros u U. split; [reflexivity|apply clamp_P].
Qed.
Lemma can_add_constant d Vs t c (x : value) y : can d Vs -> In (Table t c P x) Vs -> (t * c <= q)%nat ->
  can (S d) (Table t c P (fun u => add_constant a t c (x u) y) :: Vs).
Proof.
  intros C X Q. pose proof b_bounds. unfold add_constant. apply can_tab; auto; [lia|]. intros r j Hr Hj.
  apply made_one with (x := fun u => x u r j) (y := fun u => x u r j) (h := fun v _ => clamp p (v + y r j)); try (eapply wired_in; eauto); [lia|].
  intros u U. split; [reflexivity|apply clamp_P].
Qed.
Lemma can_multiply d Vs t c (x y : value) : can d Vs -> In (Table t c P x) Vs -> In (Table t c P y) Vs -> (t * c <= q)%nat ->
  can (S d) (Table t c P (fun u => multiply a t c (x u) (y u)) :: Vs).
Proof.
  intros C X Y Q. pose proof b_bounds. unfold multiply. apply can_tab; auto; [lia|]. intros r j Hr Hj.
  apply made_one with (x := fun u => x u r j) (y := fun u => y u r j) (h := fun v v' => narrow p f (v * v')); try (eapply wired_in; eauto); [lia|].
  intros u U. split; [reflexivity|apply narrow_P].
Qed.
Lemma can_weigh d Vs t c w (x : value) : can d Vs -> In (Table t c P x) Vs -> (t * c <= q)%nat ->
  can (S d) (Table t c P (fun u => weigh a t c w (x u)) :: Vs).
Proof.
  intros C X Q. pose proof b_bounds. unfold weigh. apply can_tab; auto; [lia|]. intros r j Hr Hj.
  apply made_one with (x := fun u => x u r j) (y := fun u => x u r j) (h := fun v _ => narrow p f (v * clamp p (w j))); try (eapply wired_in; eauto); [lia|].
  intros u U. split; [reflexivity|apply narrow_P].
Qed.
Lemma can_fused d Vs t c (x y z : value) : can d Vs -> In (Table t c P x) Vs -> In (Table t c P y) Vs -> In (Table t c P z) Vs -> (t * c <= q)%nat ->
  can (S d) (Table t c P (fun u => fused a t c (x u) (y u) (z u)) :: Vs).
Proof.
  intros C X Y Z_ Q. pose proof b_bounds. pose proof P_two. unfold fused. apply can_tab; auto; [lia|]. intros r j Hr Hj.
  apply made_two with (x := fun u => x u r j) (y := fun u => y u r j) (z := fun u => z u r j) (h := fun v v' => v * v') (h' := fun v _ => v * 2 ^ f)
    (g := narrow p f); try (eapply wired_in; eauto).
  assert (F : Z.abs (2 ^ f) <= P) by (rewrite Z.abs_eq by (apply Z.pow_nonneg; lia); apply Z.pow_le_mono_r; lia).
  intros u U. pose proof (can_bound _ _ _ _ _ _ _ _ _ _ u r j C X U Hr Hj) as Bx. pose proof (can_bound _ _ _ _ _ _ _ _ _ _ u r j C Y U Hr Hj) as By.
  pose proof (can_bound _ _ _ _ _ _ _ _ _ _ u r j C Z_ U Hr Hj) as Bz. cbn in Bx, By, Bz.
  pose proof (mul_bound _ _ _ _ Bx By). pose proof (mul_bound _ _ _ _ Bz F). repeat split; try lia. apply narrow_P.
Qed.
Lemma can_apply d Vs t c g (x : value) : can d Vs -> In (Table t c P x) Vs -> (t * c <= q)%nat ->
  can (S d) (Table t c P (fun u => apply a t c g (x u)) :: Vs).
Proof.
  intros C X Q. pose proof b_bounds. unfold apply. apply can_tab; auto; [lia|]. intros r j Hr Hj.
  apply made_one with (x := fun u => x u r j) (y := fun u => x u r j) (h := fun v _ => clamp p (g v)); try (eapply wired_in; eauto); [lia|].
  intros u U. split; [reflexivity|apply clamp_P].
Qed.
Lemma can_look_up d Vs c m entries (g : Z -> Z) (label : input -> Z) : can d Vs -> In (Table 1 1 m (fun u _ _ => label u)) Vs -> (c <= q)%nat ->
  can (S d) (Table 1 c P (fun u => look_up a c entries (g (label u))) :: Vs).
Proof.
  intros C X Q. pose proof b_bounds. unfold look_up. apply can_tab; auto; [lia|lia|]. intros r j Hr Hj.
  apply made_one with (x := label) (y := label) (h := fun v _ => clamp p (entries (g v) j)); try (apply (wired_in _ _ _ _ _ 0%nat 0%nat X); lia); [lia|].
  intros u U. split; [reflexivity|apply clamp_P].
Qed.
Lemma can_resample d Vs t s c m o (x : value) : can d Vs -> In (Table s c P x) Vs -> (s <= k)%nat -> (t * c <= q)%nat ->
  can (S d) (Table t c P (fun u => resample a t s c m o (x u)) :: Vs).
Proof.
  intros C X L Q. pose proof b_bounds. pose proof P_two. unfold resample. apply can_tab; auto; [lia|]. intros r j Hr Hj.
  apply made_sum with (d := s) (x := fun e u => x u e j) (y := fun e u => x u e j) (h := fun e v _ => v * clamp p (m r e))
    (g := narrow p o); auto.
  - intros e He. split; eapply wired_in; eauto.
  - intros u U. split; [reflexivity|]. split; [|apply narrow_P].
    intros e He. pose proof (can_bound _ _ _ _ _ _ _ _ _ _ u e j C X U He Hj) as B. cbn in B. pose proof (mul_bound _ _ _ _ B (clamp_P (m r e))). lia.
Qed.
Lemma can_squares d Vs t c (x : value) : can d Vs -> In (Table t c P x) Vs -> (c <= k)%nat -> (t <= q)%nat ->
  can (S d) (Table t 1 b (fun u => squares t c (x u)) :: Vs).
Proof.
  intros C X L Q. pose proof b_bounds. pose proof P_two. unfold squares. apply can_tab; auto; [lia|lia|]. intros r j Hr Hj.
  assert (S : forall u, valid u -> Z.abs (1 + sum c (fun e => x u r e * x u r e)) <= b).
  { intros u U. assert (Z.abs (sum c (fun e => x u r e * x u r e)) <= Z.of_nat c * (P * P)).
    - apply sum_bound. intros e He. pose proof (can_bound _ _ _ _ _ _ _ _ _ _ u r e C X U Hr He) as B. apply mul_bound; exact B.
    - assert (Z.of_nat c * (P * P) <= K * (P * P)) by (apply Z.mul_le_mono_nonneg_r; unfold K; lia). lia. }
  apply made_sum with (d := c) (x := fun e u => x u r e) (y := fun e u => x u r e) (h := fun e v v' => v * v') (g := fun s => 1 + s); auto.
  - intros e He. split; eapply wired_in; eauto.
  - intros u U. split; [reflexivity|]. split; auto. intros e He. pose proof (can_bound _ _ _ _ _ _ _ _ _ _ u r e C X U Hr He) as B. cbn in B.
    pose proof (mul_bound _ _ _ _ B B). lia.
Qed.
Lemma can_rms_norm d Vs t c (x : value) : can d Vs -> In (Table t c P x) Vs -> (c <= k)%nat -> (t <= q)%nat -> (t * c <= q)%nat ->
  can (S (S d)) (Table t c P (fun u => rms_norm a t c (x u)) :: Vs).
Proof.
  intros C X L Q Q'. pose proof b_bounds. pose proof (can_squares _ _ _ _ x C X L Q) as C'.
  set (D := fun u => squares t c (x u)) in *.
  eapply can_forget with (Vs := Table t c P (fun u => rms_norm a t c (x u)) :: Table t 1 b D :: Vs).
  2: { intros V [<-|V_in]; [left; reflexivity|right; right; exact V_in]. }
  unfold rms_norm. apply can_tab; auto; [lia|]. intros r j Hr Hj.
  apply made_one with (x := fun u => x u r j) (y := fun u => D u r 0%nat) (h := quotient p 2 (p - f) (inverse_root a c)); [| |lia|].
  - eapply wired_in; [right; exact X| |]; auto.
  - apply (wired_in _ t 1 b D r 0%nat); auto. left. reflexivity.
  - intros u U. split; [reflexivity|apply quotient_P].
Qed.
Lemma can_rotate d Vs t c e m o (x : value) : can d Vs -> In (Table t c P x) Vs -> (exists h, c = h * 2)%nat -> (t * c <= q)%nat ->
  can (S d) (Table t c P (fun u => rotate a t c e m o (x u)) :: Vs).
Proof.
  intros C X [h E] Q. pose proof b_bounds. pose proof P_two. unfold rotate. apply can_tab; auto; [lia|]. intros r j Hr Hj.
  assert (J : (2 * (j / 2) + 1 < c)%nat).
  { assert (j / 2 < h)%nat by (apply Nat.div_lt_upper_bound; lia). lia. }
  apply made_two with (x := fun u => x u r (2 * (j / 2))%nat) (y := fun u => x u r (2 * (j / 2))%nat) (z := fun u => x u r (2 * (j / 2) + 1)%nat)
    (h := fun v _ => v * clamp p (m r (4 * ((j mod (2 * e)) / 2) + 2 * (j mod 2))%nat))
    (h' := fun v _ => v * clamp p (m r (4 * ((j mod (2 * e)) / 2) + 2 * (j mod 2) + 1)%nat)) (g := narrow p o);
    try (eapply wired_in; [exact X|auto|lia]).
  intros u U. assert (J' : (2 * (j / 2) < c)%nat) by lia.
  pose proof (can_bound _ _ _ _ _ _ _ _ _ _ u r _ C X U Hr J) as B. pose proof (can_bound _ _ _ _ _ _ _ _ _ _ u r _ C X U Hr J') as B'. cbn [entry bound] in B, B'.
  split; [reflexivity|]. split; [|split; [|apply narrow_P]]; (eapply Z.le_trans; [apply mul_bound; [eassumption|apply clamp_P]|lia]).
Qed.
Lemma can_exponentials d Vs t s h e (x y : value) : can d Vs -> In (Table t (h * e) P x) Vs -> In (Table s (h * e) P y) Vs -> (e <= k)%nat ->
  (t * (h * s) <= q)%nat -> can (S d) (Table t (h * s) (P * P * P) (fun u => exponentials a t s h e (x u) (y u)) :: Vs).
Proof.
  intros C X Y L Q. pose proof b_bounds. pose proof P_two. unfold exponentials. apply can_tab; auto; [lia|]. intros r c Hr Hc.
  assert (S : (0 < s)%nat) by nia. assert (c / s < h)%nat by (apply Nat.div_lt_upper_bound; lia). assert (c mod s < s)%nat by (apply Nat.mod_upper_bound; lia).
  assert (In_ : forall l, (l < e)%nat -> (c / s * e + l < h * e)%nat) by (intros; nia).
  apply made_sum with (d := e) (x := fun l u => x u r (c / s * e + l)%nat) (y := fun l u => y u (c mod s)%nat (c / s * e + l)%nat)
    (h := fun _ v v' => v * v') (g := fun z => clamp (3 * p) (exp a (narrow p f z))); auto.
  - intros l Hl. split; eapply wired_in; eauto.
  - intros u U. split; [reflexivity|]. split.
    + intros l Hl. pose proof (can_bound _ _ _ _ _ _ _ _ _ _ u r _ C X U Hr (In_ l Hl)) as B.
      pose proof (can_bound _ _ _ _ _ _ _ _ _ _ u (c mod s)%nat _ C Y U ltac:(auto) (In_ l Hl)) as B'. cbn [entry bound] in B, B'.
      pose proof (mul_bound _ _ _ _ B B'). lia.
    + replace (P * P * P) with (2 ^ (3 * p)) by (unfold P; rewrite <- !Z.pow_add_r by lia; f_equal; lia). apply clamp_bound. lia.
Qed.
Lemma can_denominators d Vs t s h (x : value) : can d Vs -> In (Table t (h * s) (P * P * P) x) Vs -> (s <= k)%nat -> (t * h <= q)%nat ->
  can (S d) (Table t h b (fun u => denominators t s h (x u)) :: Vs).
Proof.
  intros C X L Q. pose proof b_bounds. pose proof P_two. unfold denominators. apply can_tab; auto; [lia|]. intros r c Hr Hc.
  assert (In_ : forall l, (l < s)%nat -> (c * s + l < h * s)%nat) by (intros; nia).
  assert (B : forall u l, valid u -> (l < s)%nat -> Z.abs (x u r (c * s + l)%nat) <= P * P * P).
  { intros u l U Hl. apply (can_bound _ _ _ _ _ _ _ _ _ _ u r _ C X U Hr (In_ l Hl)). }
  apply made_sum with (d := s) (x := fun l u => x u r (c * s + l)%nat) (y := fun l u => x u r (c * s + l)%nat)
    (h := fun _ v _ => v) (g := fun z => 1 + z); auto.
  - intros l Hl. split; eapply wired_in; eauto.
  - intros u U. split; [reflexivity|]. split.
    + intros l Hl. specialize (B u l U Hl). lia.
    + pose proof (sum_bound s (fun l => x u r (c * s + l)%nat) _ (fun l Hl => B u l U Hl)).
      assert (Z.of_nat s * (P * P * P) <= K * (P * P * P)) by (apply Z.mul_le_mono_nonneg_r; unfold K; lia). lia.
Qed.
Lemma can_numerators d Vs t s h e (x v : value) : can d Vs -> In (Table t (h * s) (P * P * P) x) Vs -> In (Table s (h * e) P v) Vs -> (s <= k)%nat ->
  (t * (h * e) <= q)%nat -> can (S d) (Table t (h * e) b (fun u => numerators t s h e (x u) (v u)) :: Vs).
Proof.
  intros C X V L Q. pose proof b_bounds. pose proof P_two. unfold numerators. apply can_tab; auto; [lia|]. intros r c Hr Hc.
  pose proof (head_of h e c Hc).
  assert (In_ : forall l, (l < s)%nat -> (c / e * s + l < h * s)%nat) by (intros; nia).
  assert (B : forall u l, valid u -> (l < s)%nat -> Z.abs (x u r (c / e * s + l)%nat * v u l c) <= P * P * P * P).
  { intros u l U Hl. apply mul_bound. apply (can_bound _ _ _ _ _ _ _ _ _ _ u r _ C X U Hr (In_ l Hl)). apply (can_bound _ _ _ _ _ _ _ _ _ _ u l c C V U Hl Hc). }
  apply made_sum with (d := s) (x := fun l u => x u r (c / e * s + l)%nat) (y := fun l u => v u l c)
    (h := fun _ y y' => y * y') (g := fun z => z); auto.
  - intros l Hl. split; eapply wired_in; eauto.
  - intros u U. split; [reflexivity|]. split.
    + intros l Hl. specialize (B u l U Hl). lia.
    + pose proof (sum_bound s (fun l => x u r (c / e * s + l)%nat * v u l c) _ (fun l Hl => B u l U Hl)).
      assert (Z.of_nat s * (P * P * P * P) <= K * (P * P * P * P)) by (apply Z.mul_le_mono_nonneg_r; unfold K; lia). lia.
Qed.
Lemma can_attention d Vs t s h e (x y v : value) : can d Vs -> In (Table t (h * e) P x) Vs -> In (Table s (h * e) P y) Vs -> In (Table s (h * e) P v) Vs ->
  (e <= k)%nat -> (s <= k)%nat -> (t * (h * s) <= q)%nat -> (t * h <= q)%nat -> (t * (h * e) <= q)%nat ->
  can (S (S (S (S d)))) (Table t (h * e) P (fun u => attention a t s h e (x u) (y u) (v u)) :: Vs).
Proof.
  intros C X Y V Le Ls Q1 Q2 Q3. pose proof b_bounds.
  pose proof (can_exponentials _ _ _ _ _ _ x y C X Y Le Q1) as C1. set (E := fun u => exponentials a t s h e (x u) (y u)) in *.
  pose proof (can_denominators _ _ _ _ _ E C1 (or_introl eq_refl) Ls Q2) as C2. set (D := fun u => denominators t s h (E u)) in *.
  pose proof (can_numerators _ _ _ _ _ _ E v C2 (or_intror (or_introl eq_refl)) (or_intror (or_intror V)) Ls Q3) as C3. set (N := fun u => numerators t s h e (E u) (v u)) in *.
  eapply can_forget with (Vs := Table t (h * e) P (fun u => attention a t s h e (x u) (y u) (v u)) :: Table t (h * e) b N :: Table t h b D :: Table t (h * s) (P * P * P) E :: Vs).
  2: { intros T [<-|I]; [left; reflexivity|right; right; right; right; exact I]. }
  unfold attention. apply can_tab; auto; [lia|]. intros r c Hr Hc. pose proof (head_of h e c Hc).
  apply made_one with (x := fun u => N u r c) (y := fun u => D u r (c / e)%nat) (h := quotient p 1 p (reciprocal a)); [| |lia|].
  - apply (wired_in _ t (h * e) b N r c); auto. left. reflexivity.
  - apply (wired_in _ t h b D r (c / e)%nat); auto. right. left. reflexivity.
  - intros u U. split; [reflexivity|apply quotient_P].
Qed.
Lemma can_heads d Vs t s h e c (x y v : value) : can d Vs -> In (Table t c P x) Vs -> In (Table s c P y) Vs -> In (Table s c P v) Vs -> c = (h * e)%nat ->
  (e <= k)%nat -> (s <= k)%nat -> (t * (h * s) <= q)%nat -> (t * h <= q)%nat -> (t * c <= q)%nat ->
  can (S (S (S (S d)))) (Table t c P (fun u => attention a t s h e (x u) (y u) (v u)) :: Vs).
Proof. intros; subst; apply can_attention; auto. Qed.
(* a list of velocities, one for each half *)
Lemma can_move d Vs t c cs (vs : list value) (x : value) : can d Vs -> In (Table t c P x) Vs -> Forall (fun v => In (Table t c P v) Vs) vs ->
  (S (length vs) <= k)%nat -> (t * c <= q)%nat ->
  can (S d) (Table t c P (fun u => move a t c cs (map (fun v => v u) vs) (x u)) :: Vs).
Proof.
  intros C X V L Q. pose proof b_bounds. pose proof P_two. unfold move. apply can_tab; auto; [lia|]. intros r j Hr Hj.
  exists (((fun u => x u r j), (fun u => x u r j), (fun v _ => 256 * v)) ::
    map (fun m : Z * value => ((fun u => snd m u r j), (fun u => snd m u r j), (fun v _ => clamp (p + 8) (fst m) * v))) (combine cs vs)), (narrow p 8).
  cbn [length]. rewrite map_length, combine_length. split; [lia|]. split.
  - constructor; [split; eapply wired_in; eauto|]. rewrite Forall_map. apply Forall_forall. intros [z v] I. apply in_combine_r in I.
    rewrite Forall_forall in V. split; eapply wired_in; eauto.
  - intros u U. split; [|split; [|apply narrow_P]].
    + cbn [map add_up fold_right worth]. f_equal. f_equal. rewrite map_map. cbn [fst snd].
      unfold add_up. f_equal. rewrite <- (map_map (fun m : Z * value => (fst m, snd m u)) (fun m : Z * tab => clamp (p + 8) (fst m) * snd m r j)).
      f_equal. clear. revert cs. induction vs; intros [|z cs]; cbn; auto. f_equal. apply IHvs.
    + pose proof (can_bound _ _ _ _ _ _ _ _ _ _ u r j C X U Hr Hj) as B. cbn [entry bound] in B. assert (P <= P * P) by nia. constructor; [cbn [worth]; lia|].
      rewrite Forall_map. apply Forall_forall. intros [z v] I. apply in_combine_r in I. rewrite Forall_forall in V. specialize (V v I).
      pose proof (can_bound _ _ _ _ _ _ _ _ _ _ u r j C V U Hr Hj) as B'. cbn [entry bound worth fst snd] in *.
      pose proof (mul_bound _ _ _ _ (clamp_bound (p + 8) z ltac:(lia)) B'). replace (2 ^ (p + 8)) with (256 * P) in * by (unfold P; rewrite Z.pow_add_r by lia; lia). lia.
Qed.

(* ---- tables read in another order ---- *)
Lemma can_columns d Vs r c c' m from (x : value) : can d Vs -> In (Table r c m x) Vs -> (from + c' <= c)%nat ->
  can d (Table r c' m (fun u => columns from (x u)) :: Vs).
Proof. intros C X L. apply can_rearrange; auto. intros i j Hi Hj. exists (Table r c m x), i, (from + j)%nat. cbn. repeat split; auto; lia. Qed.
Lemma can_part d Vs r c c' m (x : value) : can d Vs -> In (Table r c m x) Vs -> (c' <= c)%nat -> can d (Table r c' m x :: Vs).
Proof. intros C X L. apply can_rearrange; auto. intros i j Hi Hj. exists (Table r c m x), i, j. cbn. repeat split; auto; lia. Qed.
Lemma can_row d Vs c m t (x : value) : can d Vs -> In (Table 1 c m x) Vs -> can d (Table t c m (fun u => (fun _ j => x u 0%nat j) : tab) :: Vs).
Proof. intros C X. apply can_rearrange; auto. intros i j Hi Hj. exists (Table 1 c m x), 0%nat, j. cbn. repeat split; auto; lia. Qed.
Lemma can_below d Vs s t c m (x y : value) : can d Vs -> In (Table s c m x) Vs -> In (Table t c m y) Vs ->
  can d (Table (s + t) c m (fun u => below s (x u) (y u)) :: Vs).
Proof.
  intros C X Y. apply can_rearrange; auto. intros i j Hi Hj. unfold below. destruct (Nat.ltb_spec i s).
  - exists (Table s c m x), i, j. cbn. repeat split; auto; lia.
  - exists (Table t c m y), (i - s)%nat, j. cbn. repeat split; auto; lia.
Qed.
Lemma can_rows d Vs r r' c m from (x : value) : can d Vs -> In (Table r c m x) Vs -> (from + r' <= r)%nat ->
  can d (Table r' c m (fun u => (fun i j => x u (from + i)%nat j) : tab) :: Vs).
Proof. intros C X L. apply can_rearrange; auto. intros i j Hi Hj. exists (Table r c m x), (from + i)%nat, j. cbn. repeat split; auto; lia. Qed.
Lemma can_nothing d Vs c m (x : value) : can d Vs -> can d (Table 0 c m x :: Vs).
Proof. intros C. apply can_rearrange; auto. intros i j Hi. lia. Qed.
End Layers.
