(* Threshold circuits as lists of layers; any function of an integer sum by a bank of gates and one more layer. *)
Require Import ZArith List Lia Bool.
Import ListNotations.
Open Scope Z_scope.

Definition gate := (list Z * Z)%type.  (* weights over the layer before, and the threshold *)
Definition layer := list gate.
Definition circuit := list layer.

Definition b2z (b : bool) : Z := if b then 1 else 0.
Fixpoint dot (w : list Z) (x : list bool) : Z :=
  match w, x with a :: w', b :: x' => a * b2z b + dot w' x' | _, _ => 0 end.
Definition fires (x : list bool) (g : gate) : bool := snd g <=? dot (fst g) x.
Definition run_layer (l : layer) (x : list bool) : list bool := map (fires x) l.
Fixpoint run (c : circuit) (x : list bool) : list bool :=
  match c with [] => x | l :: c' => run c' (run_layer l x) end.
Definition depth (c : circuit) : nat := length c.
Fixpoint size (c : circuit) : nat := match c with [] => 0 | l :: c' => length l + size c' end.
(* no weight and no threshold is larger than m *)
Definition gate_within (m : Z) (g : gate) := Forall (fun w => Z.abs w <= m) (fst g) /\ Z.abs (snd g) <= m.
Definition weights_within (m : Z) (c : circuit) := Forall (Forall (gate_within m)) c.

Lemma run_app c d x : run (c ++ d) x = run d (run c x).
Proof. revert x; induction c; simpl; auto. Qed.
Lemma depth_app c d : depth (c ++ d) = (depth c + depth d)%nat.
Proof. apply app_length. Qed.
Lemma size_app c d : size (c ++ d) = (size c + size d)%nat.
Proof. induction c; simpl; [auto | rewrite IHc; lia]. Qed.
Lemma within_app m c d : weights_within m c -> weights_within m d -> weights_within m (c ++ d).
Proof. intros; apply Forall_app; auto. Qed.
Lemma within_weaken m m' c : m <= m' -> weights_within m c -> weights_within m' c.
Proof.
  intros H; apply Forall_impl; intro l; apply Forall_impl; intros g [A B]; split; [|lia].
  eapply Forall_impl; [|exact A]; simpl; intros; lia.
Qed.
Lemma run_layer_length l x : length (run_layer l x) = length l.
Proof. apply map_length. Qed.

(* ---- sums of weight vectors ---- *)
Fixpoint vadd (a b : list Z) : list Z :=
  match a, b with [], _ => b | _, [] => a | x :: a', y :: b' => x + y :: vadd a' b' end.
Lemma dot_vadd a b x : dot (vadd a b) x = dot a x + dot b x.
Proof.
  revert b x; induction a; intros b x; simpl; auto.
  destruct b, x; cbn [dot]; try lia. rewrite IHa; lia.
Qed.
Lemma dot_nil x : dot [] x = 0. Proof. destruct x; auto. Qed.
Lemma dot_nil_r w : dot w [] = 0. Proof. destruct w; auto. Qed.
Lemma dot_short w x y : (length w <= length x)%nat -> dot w (x ++ y) = dot w x.
Proof. revert x; induction w; destruct x; simpl; intros; rewrite ?dot_nil; auto; try lia. rewrite IHw by lia. reflexivity. Qed.
Lemma dot_both w v x y : length w = length x -> dot (w ++ v) (x ++ y) = dot w x + dot v y.
Proof. revert x; induction w; destruct x; cbn [app dot length]; intros; try lia. rewrite IHw by lia. lia. Qed.
Lemma dot_skip x w y : dot (repeat 0 (length x) ++ w) (x ++ y) = dot w y.
Proof. induction x; cbn [length repeat app dot]; intros; auto. Qed.
Lemma within_vadd m k a b : Forall (fun w => Z.abs w <= m) a -> Forall (fun w => Z.abs w <= k) b -> 0 <= m -> 0 <= k ->
  Forall (fun w => Z.abs w <= m + k) (vadd a b).
Proof.
  intros A; revert b; induction A; intros b F0 Hm Hk; simpl.
  - eapply Forall_impl; [|exact F0]; simpl; intros; lia.
  - destruct F0 as [|y b Y F].
    + constructor. lia. eapply Forall_impl; [|exact A]; simpl; intros; lia.
    + constructor. lia. auto.
Qed.

(* ---- the bank of a sum S: [S >= lo + 1], ..., [S >= lo + n] ---- *)
Definition bank (w : list Z) (lo : Z) (n : nat) : layer := map (fun i => (w, lo + Z.of_nat i)) (seq 1 n).
Definition steps (S lo : Z) (n : nat) : list bool := map (fun i => lo + Z.of_nat i <=? S) (seq 1 n).
Lemma run_bank w lo n x : run_layer (bank w lo n) x = steps (dot w x) lo n.
Proof. unfold run_layer, bank, steps. rewrite map_map. reflexivity. Qed.

(* weights that turn the bank into f(S) - f(lo) *)
Definition jumps (f : Z -> Z) (lo : Z) (n : nat) : list Z :=
  map (fun i => f (lo + Z.of_nat i) - f (lo + Z.of_nat i - 1)) (seq 1 n).

Lemma telescope f lo (k : nat) S : lo <= S -> forall start, S <= lo + Z.of_nat start + Z.of_nat k ->
  dot (map (fun i => f (lo + Z.of_nat i) - f (lo + Z.of_nat i - 1)) (seq (start + 1) k))
      (map (fun i => lo + Z.of_nat i <=? S) (seq (start + 1) k))
  = f (Z.max S (lo + Z.of_nat start)) - f (lo + Z.of_nat start).
Proof.
  intros H; induction k; intros start HS; cbn [seq map dot].
  - rewrite Z.max_r by lia. lia.
  - replace (Datatypes.S (start + 1)) with (Datatypes.S start + 1)%nat by lia. rewrite IHk by lia.
    replace (lo + Z.of_nat (Datatypes.S start)) with (lo + Z.of_nat start + 1) by lia.
    replace (lo + Z.of_nat (start + 1)) with (lo + Z.of_nat start + 1) by lia.
    replace (lo + Z.of_nat start + 1 - 1) with (lo + Z.of_nat start) by lia.
    destruct (Z.leb_spec (lo + Z.of_nat start + 1) S); cbn [b2z].
    + rewrite !Z.max_l by lia. lia.
    + rewrite !Z.max_r by lia. lia.
Qed.
Theorem jumps_read f lo n S : lo <= S <= lo + Z.of_nat n -> dot (jumps f lo n) (steps S lo n) = f S - f lo.
Proof.
  intros H. pose proof (telescope f lo n S (proj1 H) 0%nat) as T. cbn [plus] in T.
  rewrite Z.add_0_r in T. rewrite Z.max_l in T by lia. apply T; lia.
Qed.
Lemma jumps_length f lo n : length (jumps f lo n) = n.
Proof. unfold jumps. rewrite map_length, seq_length. auto. Qed.
Lemma steps_length S lo n : length (steps S lo n) = n.
Proof. unfold steps. rewrite map_length, seq_length. auto. Qed.
Lemma bank_length w lo n : length (bank w lo n) = n.
Proof. unfold bank. rewrite map_length, seq_length. auto. Qed.
Lemma jumps_within f lo n m : (forall v, Z.abs (f v) <= m) -> Forall (fun w => Z.abs w <= 2 * m) (jumps f lo n).
Proof.
  intros H. unfold jumps. rewrite Forall_map. apply Forall_forall. intros i _.
  pose proof (H (lo + Z.of_nat i)). pose proof (H (lo + Z.of_nat i - 1)). lia.
Qed.

(* one bit of the sum: [f(S)] for a predicate f *)
Definition read (f : Z -> bool) (lo : Z) (n : nat) : gate := (jumps (fun v => b2z (f v)) lo n, 1 - b2z (f lo)).
Theorem bank_reads fs w lo n x : lo <= dot w x <= lo + Z.of_nat n ->
  run [bank w lo n; map (fun f => read f lo n) fs] x = map (fun f => f (dot w x)) fs.
Proof.
  intros H. cbn [run]. rewrite run_bank. unfold run_layer. rewrite map_map. apply map_ext. intro f.
  unfold fires, read. cbn [fst snd]. rewrite jumps_read by assumption. destruct (f (dot w x)), (f lo); reflexivity.
Qed.
Lemma read_fires f lo n S : lo <= S <= lo + Z.of_nat n -> fires (steps S lo n) (read f lo n) = f S.
Proof. intros H. unfold fires, read. cbn [fst snd]. rewrite jumps_read by assumption. destruct (f S), (f lo); reflexivity. Qed.
Lemma read_within f lo n : gate_within 2 (read f lo n).
Proof.
  split; cbn [read fst snd].
  - apply (jumps_within _ lo n 1). intro v. destruct (f v); simpl; lia.
  - destruct (f lo); simpl; lia.
Qed.
