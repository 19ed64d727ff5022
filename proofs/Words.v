(* Numbers as bits, low first, the last one maybe weighing its negative: decoding, single bits, widths, powers of two. *)
Require Import ZArith List Lia Bool FMapPositive.
Import ListNotations.
Require Import Claims Polynomials Cases Sums.
Open Scope Z_scope.

Fixpoint decode (signed_ : bool) (l : list Z) : Z :=
  match l with [] => 0 | [b] => if signed_ then - b else b | b :: l' => b + 2 * decode signed_ l' end.
Fixpoint bits_are (v : Z) (l : list Z) : bool := match l with [] => true | b :: l' => (b =? v mod 2) && bits_are (v / 2) l' end.
Definition in_width (signed_ : bool) (n : nat) (v : Z) : bool :=
  if signed_ then negb (Nat.eqb n 0) && (- 2 ^ (Z.of_nat n - 1) <=? v) && (v <? 2 ^ (Z.of_nat n - 1)) else (0 <=? v) && (v <? 2 ^ Z.of_nat n).
Definition all_bits (l : list Z) : Prop := Forall (fun b => is_bit b = true) l.

Lemma decode_cons s b c l : decode s (b :: c :: l) = b + 2 * decode s (c :: l). Proof. auto. Qed.
Lemma decode_unsigned l : decode false l = from_bits l.
Proof. induction l as [|b [|c l] I]; cbn [from_bits]; auto; [cbn; lia|]. rewrite decode_cons, I. auto. Qed.
Lemma decode_signed l : decode true l = from_bits l - modulus l * last l 0.
Proof.
  unfold modulus. induction l as [|b [|c l] I]; cbn [from_bits]; auto; [cbn [decode last length]; change (2 ^ Z.of_nat 1) with 2; lia|].
  rewrite decode_cons, I. cbn [from_bits]. change (last (b :: c :: l) 0) with (last (c :: l) 0).
  change (length (b :: c :: l)) with (S (length (c :: l))). rewrite pow_S. lia.
Qed.
Lemma is_bit_b2z b : is_bit b = true -> b = Z.b2z (b =? 1).
Proof. intros H. apply is_bit_range in H. destruct (Z.eqb_spec b 1); cbn; lia. Qed.
Definition bit_of (s : bool) (l : list Z) (j : nat) : Z := if Nat.ltb j (length l) then nth j l 0 else if s then last l 0 else 0.
Lemma decode_bit s l : all_bits l -> forall j, Z.b2z (Z.testbit (decode s l) (Z.of_nat j)) = bit_of s l j.
Proof.
  intros H. induction H as [|b l B H I]; intros j; [unfold bit_of; cbn; destruct s; rewrite Z.bits_0; auto|].
  destruct l as [|c l].
  - apply is_bit_range in B. assert (b = 0 \/ b = 1) as [-> | ->] by lia; unfold bit_of; cbn [decode length nth last].
    + replace (if s then - 0 else 0) with 0 by (destruct s; auto). rewrite Z.bits_0. destruct j as [|[|j]]; destruct s; auto.
    + destruct j as [|j]; [destruct s; auto|]. replace (Nat.ltb (S j) 1) with false by (symmetry; apply Nat.ltb_ge; lia).
      destruct s; [rewrite Z.bits_m1 by lia; auto|]. change 1 with (2 ^ 0). rewrite Z.pow2_bits_false by lia. auto.
  - rewrite decode_cons, (is_bit_b2z b B), Z.add_comm. destruct j as [|j].
    + change (Z.of_nat 0) with 0. rewrite Z.testbit_0_r. unfold bit_of. cbn [length Nat.ltb Nat.leb nth]. rewrite <- (is_bit_b2z b B). auto.
    + rewrite Nat2Z.inj_succ, Z.testbit_succ_r by lia. rewrite I. unfold bit_of. cbn [length nth last].
      change (Nat.ltb (S j) (S (S (length l)))) with (Nat.ltb j (S (length l))). auto.
Qed.
Lemma from_bits_range l : all_bits l -> 0 <= from_bits l < modulus l.
Proof.
  unfold modulus. intros H. induction H as [|b l B H I]; cbn [from_bits length]; [change (2 ^ Z.of_nat 0) with 1; lia|].
  rewrite pow_S. apply is_bit_range in B. lia.
Qed.
Lemma decode_range s l : all_bits l -> l <> [] -> in_width s (length l) (decode s l) = true.
Proof.
  intros H N. destruct s.
  - assert (R : forall b k, all_bits (b :: k) -> - 2 ^ (Z.of_nat (length (b :: k)) - 1) <= decode true (b :: k) < 2 ^ (Z.of_nat (length (b :: k)) - 1)).
    { clear. intros b k. revert b. induction k as [|c k I]; intros b H; inversion H as [|? ? B H']; subst; apply is_bit_range in B; [cbn; lia|].
      specialize (I c H'). rewrite decode_cons. change (length (b :: c :: k)) with (S (length (c :: k))).
      replace (2 ^ (Z.of_nat (S (length (c :: k))) - 1)) with (2 * 2 ^ (Z.of_nat (length (c :: k)) - 1)); [lia|].
      rewrite <- Z.pow_succ_r by (cbn [length]; lia). f_equal. lia. }
    unfold in_width. destruct l as [|c l]; [congruence|]. cbn [length Nat.eqb negb andb]. specialize (R c l H). apply andb_true_iff. split; [apply Z.leb_le|apply Z.ltb_lt]; apply R.
  - rewrite decode_unsigned. unfold in_width. pose proof (from_bits_range l H). unfold modulus in *. apply andb_true_iff. split; [apply Z.leb_le|apply Z.ltb_lt]; lia.
Qed.
Lemma bits_are_bits v l : bits_are v l = true -> all_bits l.
Proof.
  revert v. induction l as [|b l I]; intros v H; [constructor|]. cbn [bits_are] in H. apply andb_prop in H as [H1 H2]. constructor; [|eapply I; eauto].
  apply Z.eqb_eq in H1. subst. pose proof (Z.mod_pos_bound v 2). unfold is_bit. apply orb_true_iff. rewrite !Z.eqb_eq. lia.
Qed.
Lemma bits_are_mod l : forall v, bits_are v l = true -> exists k, v = from_bits l + modulus l * k.
Proof.
  unfold modulus. induction l as [|b l I]; intros v H; cbn [bits_are from_bits length] in *; [exists v; change (2 ^ Z.of_nat 0) with 1; lia|].
  apply andb_prop in H as [H1 H2]. apply Z.eqb_eq in H1. destruct (I _ H2) as [k K]. exists k. rewrite pow_S. pose proof (Z.div_mod v 2). lia.
Qed.
Theorem bits_are_value s v l : bits_are v l = true -> in_width s (length l) v = true -> decode s l = v.
Proof.
  intros H W. pose proof (bits_are_bits _ _ H) as B. destruct (bits_are_mod _ _ H) as [k K].
  destruct l as [|b l]; [destruct s; cbn in W; try discriminate; cbn; apply andb_prop in W as [W1 W2]; apply Z.leb_le in W1; apply Z.ltb_lt in W2; change (2 ^ Z.of_nat 0) with 1 in *; lia|].
  pose proof (decode_range s (b :: l) B ltac:(congruence)) as R. set (n := length (b :: l)) in *. assert (Pn : 0 < 2 ^ (Z.of_nat n - 1)) by (apply Z.pow_pos_nonneg; cbn in n; lia).
  assert (E : 2 ^ Z.of_nat n = 2 * 2 ^ (Z.of_nat n - 1)) by (rewrite <- Z.pow_succ_r by (cbn in n; lia); f_equal; lia).
  unfold modulus in K. fold n in K. destruct s; cbn [in_width] in *.
  - rewrite decode_signed in *. unfold modulus in *. fold n in R |- *. apply andb_prop in W as [W W3]. apply andb_prop in W as [W1 W2].
    apply andb_prop in R as [R R3]. apply andb_prop in R as [R1 R2]. apply Z.leb_le in W2, R2. apply Z.ltb_lt in W3, R3.
    assert (k + last (b :: l) 0 = 0); [|nia]. nia.
  - rewrite decode_unsigned in *. apply andb_prop in W as [W2 W3]. apply andb_prop in R as [R2 R3]. apply Z.leb_le in W2, R2. apply Z.ltb_lt in W3, R3.
    assert (k = 0); nia.
Qed.
Lemma in_width_between s n a b v : in_width s n a = true -> in_width s n b = true -> a <= v <= b -> in_width s n v = true.
Proof.
  destruct s; cbn [in_width]; intros H K R.
  - apply andb_prop in H as [H H3]. apply andb_prop in H as [H1 H2]. apply andb_prop in K as [K K3]. apply andb_prop in K as [K1 K2].
    apply Z.leb_le in H2, K2. apply Z.ltb_lt in H3, K3. rewrite H1. apply andb_true_iff. split; [apply Z.leb_le|apply Z.ltb_lt]; lia.
  - apply andb_prop in H as [H2 H3]. apply andb_prop in K as [K2 K3]. apply Z.leb_le in H2, K2. apply Z.ltb_lt in H3, K3.
    apply andb_true_iff. split; [apply Z.leb_le|apply Z.ltb_lt]; lia.
Qed.
Lemma shifted_bits x s : 0 <= s -> forall l, (forall j, (j < length l)%nat -> nth j l 0 = Z.b2z (Z.testbit x (s + Z.of_nat j))) -> bits_are (x / 2 ^ s) l = true.
Proof.
  intros Hs l. revert s Hs. induction l as [|b l I]; intros s Hs H; auto. cbn [bits_are]. apply andb_true_iff. split.
  - apply Z.eqb_eq. specialize (H 0%nat ltac:(cbn; lia)). cbn [nth] in H. rewrite H, Z.add_0_r. apply Z.testbit_spec'. exact Hs.
  - rewrite Z.div_div by (try apply Z.pow_pos_nonneg; lia). replace (2 ^ s * 2) with (2 ^ (s + 1)) by (rewrite Z.pow_add_r by lia; auto).
    apply I; [lia|]. intros j J. specialize (H (S j) ltac:(cbn [length]; lia)). cbn [nth] in H. rewrite H. f_equal. f_equal. lia.
Qed.
(* exactly one bit of a power of two *)
Lemma power_odd f : 0 <= f -> is_power (1 + 2 * f) = true -> f = 0.
Proof.
  unfold is_power. intros F H. apply andb_prop in H as [_ H]. apply Z.eqb_eq in H. set (k := Z.log2 (1 + 2 * f)) in *.
  assert (0 <= k) by apply Z.log2_nonneg. destruct (Z.eq_dec k 0) as [K|K]; [rewrite K in H; change (2 ^ 0) with 1 in H; lia|].
  replace k with (Z.succ (k - 1)) in H by lia. rewrite Z.pow_succ_r in H by lia. lia.
Qed.
Lemma power_even f : is_power (2 * f) = true -> is_power f = true.
Proof.
  unfold is_power. intros H. apply andb_prop in H as [P H]. apply Z.ltb_lt in P. apply Z.eqb_eq in H. rewrite Z.log2_double in H by lia.
  rewrite Z.pow_succ_r in H by apply Z.log2_nonneg. apply andb_true_iff. split; [apply Z.ltb_lt|apply Z.eqb_eq]; lia.
Qed.
Lemma no_bits l : all_bits l -> from_bits l = 0 -> add_up l = 0.
Proof.
  intros H. induction H as [|b l B H I]; cbn [from_bits add_up fold_right]; auto. fold (add_up l). apply is_bit_range in B.
  pose proof (from_bits_range l H). intros E. rewrite I by lia. lia.
Qed.
Theorem one_bit l : all_bits l -> is_power (from_bits l) = true -> add_up l = 1.
Proof.
  intros H. induction H as [|b l B H I]; cbn [from_bits add_up fold_right]; [discriminate|]. fold (add_up l). apply is_bit_range in B.
  pose proof (from_bits_range l H) as R. assert (b = 0 \/ b = 1) as [-> | ->] by lia; intros P.
  - rewrite I; auto. apply power_even. exact P.
  - apply power_odd in P; [|lia]. rewrite (no_bits l H P). auto.
Qed.
