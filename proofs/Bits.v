(* Numbers as bits: two's complement of w bits, low bit first. *)
Require Import ZArith List Lia Bool.
Import ListNotations.
Require Import Threshold Parallel.
Open Scope Z_scope.

Definition encode (w : nat) (x : Z) : list bool := map (fun j => Z.testbit x (Z.of_nat j)) (seq 0 w).
Definition encode_all (w : nat) (xs : list Z) : list bool := flat_map (encode w) xs.
(* the entries of a table, row by row *)
Definition flatten (r c : nat) (V : nat -> nat -> Z) : list Z := flat_map (fun i => map (V i) (seq 0 c)) (seq 0 r).
Definition fits (w : nat) (x : Z) : Prop := - 2 ^ (Z.of_nat w - 1) <= x < 2 ^ (Z.of_nat w - 1).

(* weights of the bits, the first of them worth m *)
Fixpoint places (w : nat) (m : Z) : list Z :=
  match w with O => [] | S O => [- m] | S w' => m :: places w' (2 * m) end.

Lemma encode_length w x : length (encode w x) = w.
Proof. unfold encode. rewrite map_length, seq_length. auto. Qed.
Lemma encode_all_length w xs : length (encode_all w xs) = (length xs * w)%nat.
Proof. unfold encode_all. induction xs; simpl; auto. rewrite app_length, encode_length, IHxs. auto. Qed.
Lemma encode_all_app w xs ys : encode_all w (xs ++ ys) = encode_all w xs ++ encode_all w ys.
Proof. apply flat_map_app. Qed.
Lemma encode_S w x : encode (S w) x = Z.odd x :: encode w (x / 2).
Proof.
  unfold encode. cbn [seq map]. f_equal. rewrite <- seq_shift, map_map. apply map_ext. intro j.
  replace (Z.of_nat (S j)) with (Z.succ (Z.of_nat j)) by lia.
  rewrite <- Z.div2_bits by lia. reflexivity.
Qed.
Lemma places_length w m : length (places w m) = w.
Proof. revert m; induction w as [|w I]; intro m; auto. destruct w; auto. change (length (places (S (S w)) m)) with (S (length (places (S w) (2 * m)))). rewrite I. auto. Qed.
Lemma b2z_odd x : b2z (Z.odd x) = x mod 2.
Proof. rewrite Zmod_odd. destruct (Z.odd x); auto. Qed.
Theorem decode w x m : (0 < w)%nat -> fits w x -> dot (places w m) (encode w x) = m * x.
Proof.
  revert x m; induction w as [|w I]; intros x m P F; [lia|]. destruct w as [|w].
  - unfold fits in F. simpl in F. assert (x = 0 \/ x = -1) as [-> | ->] by lia; cbn; lia.
  - change (places (S (S w)) m) with (m :: places (S w) (2 * m)). rewrite encode_S. cbn [dot].
    assert (fits (S w) (x / 2)) as F'.
    { unfold fits in *. replace (Z.of_nat (S (S w)) - 1) with (Z.succ (Z.of_nat (S w) - 1)) in F by lia.
      rewrite Z.pow_succ_r in F by lia. split; [apply Z.div_le_lower_bound; lia | apply Z.div_lt_upper_bound; lia]. }
    rewrite I by (auto; lia).
    rewrite b2z_odd. pose proof (Z.div_mod x 2). nia.
Qed.
Lemma places_within w m : 0 <= m -> Forall (fun a => Z.abs a <= m * 2 ^ Z.of_nat w) (places w m).
Proof.
  revert m; induction w as [|w I]; intros m P; [constructor|]. destruct w as [|w].
  - constructor; [simpl; lia|constructor].
  - change (places (S (S w)) m) with (m :: places (S w) (2 * m)).
    assert (0 < 2 ^ Z.of_nat (S w)) by (apply Z.pow_pos_nonneg; lia).
    replace (2 ^ Z.of_nat (S (S w))) with (2 * 2 ^ Z.of_nat (S w)) by (rewrite <- Z.pow_succ_r by lia; f_equal; lia).
    constructor. nia. eapply Forall_impl; [|apply (I (2 * m)); lia]. cbv beta. intros; lia.
Qed.

(* reading number k of a list of numbers of w bits, times m *)
Definition wire (w k : nat) (m : Z) : list Z := repeat 0 (k * w) ++ places w m.
Lemma dot_wire w k m xs : (0 < w)%nat -> (k < length xs)%nat -> Forall (fits w) xs -> dot (wire w k m) (encode_all w xs) = m * nth k xs 0.
Proof.
  unfold wire. intros P. revert k. induction xs as [|x xs I]; intros k L F; [simpl in L; lia|].
  inversion F; subst. destruct k.
  - cbn [Nat.mul repeat app nth]. change (encode_all w (x :: xs)) with (encode w x ++ encode_all w xs).
    rewrite dot_short by (rewrite places_length, encode_length; lia). apply decode; auto.
  - replace (S k * w)%nat with (w + k * w)%nat by lia. rewrite repeat_app, <- app_assoc.
    change (encode_all w (x :: xs)) with (encode w x ++ encode_all w xs).
    rewrite <- (encode_length w x) at 1. rewrite dot_skip. cbn [nth]. apply I; auto. simpl in L. lia.
Qed.
Lemma wire_length w k m : length (wire w k m) = (k * w + w)%nat.
Proof. unfold wire. rewrite app_length, repeat_length, places_length. auto. Qed.
Lemma wire_within w k m : 0 <= m -> Forall (fun a => Z.abs a <= m * 2 ^ Z.of_nat w) (wire w k m).
Proof.
  intros P. unfold wire. apply Forall_app. split; [|apply places_within; auto].
  apply Forall_forall. intros a A. apply repeat_spec in A. subst. assert (0 < 2 ^ Z.of_nat w) by (apply Z.pow_pos_nonneg; lia). simpl. nia.
Qed.

(* sign extension and cutting off, as choices of bits *)
Lemma encode_nth w x j : (j < w)%nat -> nth j (encode w x) false = Z.testbit x (Z.of_nat j).
Proof.
  intros H. unfold encode. rewrite (nth_indep _ false (Z.testbit x (Z.of_nat 0))) by (rewrite map_length, seq_length; lia).
  rewrite (map_nth (fun j => Z.testbit x (Z.of_nat j))). rewrite seq_nth by lia. auto.
Qed.
Lemma encode_all_nth w xs k j : (j < w)%nat -> (k < length xs)%nat -> nth (k * w + j) (encode_all w xs) false = Z.testbit (nth k xs 0) (Z.of_nat j).
Proof.
  revert k. induction xs as [|x xs I]; intros k J K; [simpl in K; lia|].
  change (encode_all w (x :: xs)) with (encode w x ++ encode_all w xs). destruct k.
  - rewrite app_nth1 by (rewrite encode_length; lia). apply encode_nth; lia.
  - rewrite app_nth2 by (rewrite encode_length; lia). rewrite encode_length.
    replace (S k * w + j - w)%nat with (k * w + j)%nat by lia. cbn [nth]. apply I; auto. simpl in K. lia.
Qed.
Lemma sign_bits p x j : (0 < p)%nat -> fits p x -> (p <= j)%nat -> Z.testbit x (Z.of_nat j) = Z.testbit x (Z.of_nat (p - 1)).
Proof.
  intros P F J. unfold fits in F.
  assert (H : forall i, (p - 1 <= i)%nat -> Z.testbit x (Z.of_nat i) = (x <? 0)).
  { intros i Hi. assert (2 ^ (Z.of_nat p - 1) <= 2 ^ Z.of_nat i) by (apply Z.pow_le_mono_r; lia).
    destruct (Z.ltb_spec x 0) as [N|N].
    - replace x with (- (- x)) by lia. rewrite Z.bits_opp by lia.
      assert (Z.testbit (Z.pred (- x)) (Z.of_nat i) = false) as ->; auto.
      apply Z.testbit_false; try lia. rewrite Z.div_small; auto. split; lia.
    - apply Z.testbit_false; try lia. rewrite Z.div_small by lia. auto. }
  rewrite !H by lia. auto.
Qed.
