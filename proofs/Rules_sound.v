(* Why the rules are right. *)
Require Import ZArith List Lia Bool FMapPositive.
Import ListNotations.
Require Import Claims Polynomials Cases Sums Carries Words Limits Formulas Rules.
Open Scope Z_scope.

(* the gates' equations *)
Fixpoint equations (gs : list gate) (next : node) (e : node -> bool) : Prop :=
  match gs with [] => True | g :: gs' => e next = fires e g /\ equations gs' (Pos.succ next) e end.
Lemma index_gates_sound e gs : forall next m, equations gs next e -> explains e m -> explains e (index_gates gs next m).
Proof.
  induction gs as [|g gs I]; intros next m E H n h F; cbn [index_gates] in F; [apply H; exact F|]. destruct E as [E1 E2].
  apply (I (Pos.succ next) (Map.add next g m) E2) with (n := n); [|exact F]. intros k d D.
  destruct (Pos.eq_dec k next) as [->|N]; [rewrite Map.gss in D; injection D as <-; exact E1|rewrite Map.gso in D by auto; apply H; exact D].
Qed.

Section Numbers.
Variable e : node -> bool.
Notation fv := (form_value e).
Lemma forms_values x : map fv (forms_of x) = map (bit_value e) (bits x).
Proof. unfold forms_of. rewrite map_map. reflexivity. Qed.
Lemma proper_bits x : proper e x = true -> all_bits (map fv (forms_of x)).
Proof.
  unfold proper, all_bits. rewrite forms_values, forallb_forall. intros H. apply Forall_forall. intros b B. apply in_map_iff in B as (t & <- & T). auto.
Qed.
Lemma bits_proper x : all_bits (map fv (forms_of x)) -> proper e x = true.
Proof.
  unfold proper, all_bits. rewrite forms_values, Forall_forall. intros H. apply forallb_forall. intros t T. apply H, in_map. exact T.
Qed.
Lemma standard_value ts : forall w s, standard w ts = Some s -> add_up (map (fun t => place t * bit_value e t) ts) = w * decode s (map (bit_value e) ts).
Proof.
  induction ts as [|t ts I]; intros w s H; [cbn in *; lia|]. destruct ts as [|u ts].
  - cbn [standard] in H. cbn [map add_up fold_right decode]. destruct (Z.eqb_spec (place t) w); [injection H as <-; lia|].
    destruct (Z.eqb_spec (place t) (- w)); [|discriminate]. injection H as <-. lia.
  - change (standard w (t :: u :: ts)) with (if place t =? w then standard (2 * w) (u :: ts) else None) in H.
    destruct (Z.eqb_spec (place t) w); [|discriminate]. specialize (I _ _ H).
    change (map (bit_value e) (t :: u :: ts)) with (bit_value e t :: bit_value e u :: map (bit_value e) ts). rewrite decode_cons.
    change (bit_value e u :: map (bit_value e) ts) with (map (bit_value e) (u :: ts)).
    change (add_up (map (fun t => place t * bit_value e t) (t :: u :: ts))) with (place t * bit_value e t + add_up (map (fun t => place t * bit_value e t) (u :: ts))).
    rewrite I. lia.
Qed.
Lemma number_decoded x s : standard 1 (bits x) = Some s -> value e x = decode s (map fv (forms_of x)).
Proof. intros H. unfold value. rewrite (standard_value _ _ _ H), forms_values. lia. Qed.
Lemma constant_value x : is_constant x = true -> value e x = constant_of x /\ proper e x = true.
Proof.
  unfold is_constant, constant_of, value, proper. induction (bits x) as [|t ts I]; cbn [forallb map add_up fold_right]; auto. intros H.
  apply andb_prop in H as [H1 H2]. destruct (I H2) as [A B]. destruct t as [p c [|]]; cbn [terms constant] in H1; [|discriminate].
  unfold bit_value in *. cbn [constant terms weighted place] in *. rewrite Z.add_0_r in *. rewrite H1, B. split; auto. f_equal. exact A.
Qed.
Lemma number_form_value x : fv (number_form x) = value e x.
Proof.
  unfold number_form, value. induction (bits x) as [|t ts I]; cbn [fold_right map add_up]; auto. rewrite add_forms_value, scale_form_value, I. reflexivity.
Qed.
Lemma holds_ends x v : holds x v = true -> lo x <= v <= hi x.
Proof. unfold holds. intros H. apply andb_prop in H as [H _]. apply andb_prop in H as [H1 H2]. apply Z.leb_le in H1, H2. lia. Qed.
Lemma holds_power x v : holds x v = true -> hot x = true -> is_power v = true.
Proof. unfold holds. intros H Ho. apply andb_prop in H as [_ H]. rewrite Ho in H. exact H. Qed.
Definition right (x : number) (v : Z) : Prop := value e x = v /\ holds x v = true /\ proper e x = true.
Lemma right_one x v : right x v -> right_results [x] e [v] = true.
Proof. intros (A & B & C). cbn [right_results]. rewrite A, B, C, Z.eqb_refl. auto. Qed.
Lemma fits_right x a b v : fits_result x a b = true -> a <= v <= b -> bits_are v (map fv (forms_of x)) = true -> right x v.
Proof.
  unfold fits_result. intros H R B. apply andb_prop in H as [H W]. apply andb_prop in H as [H H3]. apply andb_prop in H as [H1 H2].
  destruct (standard 1 (bits x)) as [s|] eqn:S; [|discriminate]. apply andb_prop in W as [W1 W2]. apply Z.leb_le in H2, H3.
  repeat split.
  - rewrite (number_decoded x s S). apply bits_are_value; auto. unfold forms_of. rewrite !map_length. eapply in_width_between; [exact W1|exact W2|exact R].
  - unfold holds. rewrite H1. cbn [orb]. rewrite !andb_true_iff. repeat split; try apply Z.leb_le; lia.
  - apply bits_proper. eapply bits_are_bits. exact B.
Qed.
Lemma constant_right x v : constant_result x v = true -> right x v.
Proof.
  unfold constant_result. intros H. apply andb_prop in H as [H H3]. apply andb_prop in H as [H1 H2]. apply Z.eqb_eq in H2. destruct (constant_value x H1) as [A B].
  repeat split; auto. lia.
Qed.
Lemma now_right x v : right_now x v (map fv (forms_of x)) = true -> right x v.
Proof.
  unfold right_now. intros H. apply andb_prop in H as [H H3]. apply andb_prop in H as [H1 H2]. apply Z.eqb_eq in H2. repeat split; auto.
  - rewrite <- H2. rewrite forms_values. unfold value, products. f_equal. clear. induction (bits x) as [|t ts I]; cbn [map combine fst snd]; auto. rewrite I. auto.
  - unfold proper. rewrite forms_values in H1. clear -H1. induction (bits x) as [|t ts I]; cbn [map forallb] in *; auto. apply andb_prop in H1 as [A B]. rewrite A, I; auto.
Qed.
Lemma has_bits_form x : has_bits x = true -> proper e x = true -> forall j, fv (bit_form x j) = Z.b2z (Z.testbit (value e x) (Z.of_nat j)).
Proof.
  unfold has_bits, bit_form. intros H P j. destruct (is_constant x) eqn:C.
  - destruct (constant_value x C) as [-> _]. unfold form_value. cbn. lia.
  - cbn [orb] in H. destruct (standard 1 (bits x)) as [s|] eqn:S; [|discriminate].
    rewrite form_at_value, (number_decoded x s S), decode_bit by (apply proper_bits; exact P). auto.
Qed.
(* bits that are a number modulo 2 to their count *)
Lemma mod_bits l : all_bits l -> forall v, same_mod (modulus l) v (from_bits l) -> bits_are v l = true.
Proof.
  unfold modulus. intros H. induction H as [|b l B H I]; intros v [k K]; auto. cbn [from_bits length] in K. rewrite pow_S in K. apply is_bit_range in B.
  cbn [bits_are]. apply andb_true_iff.
  assert (E : v = 2 * (from_bits l + 2 ^ Z.of_nat (length l) * k) + b) by lia. split.
  - apply Z.eqb_eq. apply Z.mod_unique with (q := from_bits l + 2 ^ Z.of_nat (length l) * k); lia.
  - apply I. exists k. symmetry. apply Z.div_unique with (r := b); lia.
Qed.
End Numbers.

Lemma clamp_limit w x : clamp w x = limit (fst (ends w)) (snd (ends w)) x.
Proof. destruct w; auto. Qed.
Lemma limited low high a b v : a <= v <= b -> limit low high a <= limit low high v <= limit low high b.
Proof. intros. split; apply limit_mono; lia. Qed.

Section Rule.
Variables (e : node -> bool) (gm : Map.t gate) (c : cell).
Hypothesis X : explains e gm.
Notation args := (arguments_of c).
Notation values := (map (map (value e)) args).
Hypothesis R : Forall (Forall (in_range e)) args.
Hypothesis Ho : Forall (Forall (fun x => hot x = true -> is_power (value e x) = true)) args.
Hypothesis Pr : Forall (Forall (fun x => proper e x = true)) args.
Notation fv := (form_value e).

Lemma shown P Q : sound_for e P Q -> show P = true -> Q.
Proof. intros S H. exact (all_cases e P Q S H). Qed.
Lemma argument_bits_proper f : In f (argument_bits c) -> is_bit (fv f) = true.
Proof.
  unfold argument_bits. intros H. apply in_flat_map in H as (r & A & H). apply in_flat_map in H as (x & B & H).
  rewrite Forall_forall in Pr. specialize (Pr r A). rewrite Forall_forall in Pr. specialize (Pr x B). apply proper_bits in Pr.
  unfold all_bits in Pr. rewrite Forall_forall in Pr. apply Pr, in_map. exact H.
Qed.
Lemma is_sum_sound a x v : is_sum gm c a x = true -> is_exact e x v ->
  all_bits (map fv (sum_bits a)) /\ decode (least x <? 0) (map fv (sum_bits a)) = v.
Proof.
  unfold is_sum. intros H [A B]. apply andb_prop in H as [H H3]. apply andb_prop in H as [H1 H2].
  destruct (check_sum_sound e gm (argument_bits c) X argument_bits_proper _ _ _ H1) as [C D]. rewrite A in D.
  assert (C' : all_bits (map fv (sum_bits a))).
  { unfold all_bits. apply Forall_forall. intros b I. apply in_map_iff in I as (f & <- & I). rewrite Forall_forall in C. auto. }
  split; auto. apply bits_are_value.
  - apply mod_bits; auto. unfold modulus in *. rewrite map_length. exact D.
  - rewrite map_length. eapply in_width_between; [exact H2|exact H3|exact B].
Qed.

Theorem added_sound a : added gm c a = true -> premise (op c) values -> right_results (results_of c) e (formula (op c) values) = true.
Proof.
  pose proof is_sum_sound as Is. unfold added. intros H P. destruct (results_of c) as [|r [|]]; try discriminate. destruct (as_sum (op c) args) as [[[x s] w]|] eqn:S.
  - destruct (as_sum_sound e _ _ _ _ _ S R P) as (v & V & ->). apply right_one. rewrite clamp_limit. destruct (ends w) as [low high] eqn:E. cbn [fst snd].
    apply andb_prop in H as [H0 H]. apply Z.leb_le in H0. assert (P2 : 0 < 2 ^ s) by (apply Z.pow_pos_nonneg; lia).
    assert (L : limit low high (least x / 2 ^ s) <= limit low high (v / 2 ^ s) <= limit low high (largest x / 2 ^ s)).
    { destruct V as [_ V]. apply limited. split; apply Z.div_le_mono; lia. }
    apply orb_prop in H as [H|H].
    + apply andb_prop in H as [H1 H2]. apply Z.eqb_eq in H1. replace (limit low high (v / 2 ^ s)) with (limit low high (least x / 2 ^ s)) by lia. apply constant_right. exact H2.
    + apply andb_prop in H as [H H3]. apply andb_prop in H as [H1 H2]. destruct (is_sum_sound a x v H2 V) as [B D].
      eapply fits_right; [exact H1|exact L|]. eapply shown; [|exact H3]. apply limit_case_sound; auto; [apply above_sound; exact X|apply V].
  - destruct (op c) as [| | | | | | | | | |s w| |] eqn:O; try discriminate. destruct args as [|[|x [|]] [|[|y [|]] [|[|power [|]] [|]]]] eqn:A; try discriminate.
    destruct (ends w) as [low high] eqn:E. apply andb_prop in H as [H H5]. apply andb_prop in H as [H H4]. apply andb_prop in H as [H H3]. apply andb_prop in H as [H1 H2].
    apply andb_prop in H5 as [H5 H6]. apply Z.leb_le in H1. destruct (standard 1 (bits power)) as [[|]|] eqn:SP; try discriminate.
    inversion R as [|? ? R1 R']; subst. inversion R' as [|? ? R2 R'']; subst. inversion R'' as [|? ? R3 _]; subst. inversion R1; inversion R2; inversion R3; subst.
    inversion Ho as [|? ? _ Ho']; subst. inversion Ho' as [|? ? _ Ho'']; subst. inversion Ho'' as [|? ? Ho3 _]; subst. inversion Ho3 as [|? ? HP _]; subst. specialize (HP H2).
    inversion Pr as [|? ? _ Pr']; subst. inversion Pr' as [|? ? _ Pr'']; subst. inversion Pr'' as [|? ? Pr3 _]; subst. inversion Pr3 as [|? ? PP _]; subst.
    pose proof (product_exact e x y ltac:(auto) ltac:(auto)) as PE. set (p := product x y) in *.
    assert (AE : is_exact e (plus p (times (2 ^ (s - 1)) (of_number power))) (value e x * value e y + 2 ^ (s - 1) * value e power)).
    { apply plus_exact; auto. apply times_exact, number_exact. auto. }
    destruct (Is a _ _ H5 AE) as [B D]. set (all := plus p _) in *. set (v := value e x * value e y) in *.
    pose proof (proper_bits e power PP) as BP. pose proof (number_decoded e power false SP) as DP. rewrite decode_unsigned in DP. rewrite DP in HP.
    set (k := Z.log2 (from_bits (map fv (forms_of power)))) in *. assert (K0 : 0 <= k) by apply Z.log2_nonneg.
    assert (KP : value e power = 2 ^ k). { rewrite DP. unfold is_power in HP. apply andb_prop in HP as [_ HP]. apply Z.eqb_eq in HP. exact HP. }
    assert (KL : (Z.to_nat k < length (bits power))%nat).
    { pose proof (from_bits_range _ BP) as FR. unfold modulus in FR. unfold forms_of in FR. rewrite !map_length in FR. fold (forms_of power) in FR.
      rewrite <- DP, KP in FR. destruct FR as [_ FR]. apply Z.pow_lt_mono_r_iff in FR; lia. }
    assert (HH : 2 ^ (s - 1) * value e power = 2 ^ (s - 1 + k)) by (rewrite KP, Z.pow_add_r by lia; auto).
    assert (IP : is_power (value e power) = true) by (rewrite DP; exact HP). rewrite HH in *. cbn [map formula]. rewrite IP.
    assert (DV : (value e x * value e y + value e power * 2 ^ (s - 1)) / (2 * (value e power * 2 ^ (s - 1))) = (v + 2 ^ (s - 1 + k)) / 2 ^ (s + k)).
    { replace (value e power * 2 ^ (s - 1)) with (2 ^ (s - 1 + k)) by lia. f_equal. rewrite <- Z.pow_succ_r by lia. f_equal. lia. }
    rewrite DV. apply right_one. rewrite clamp_limit, E. cbn [fst snd].
    rewrite forallb_forall in H4. specialize (H4 (Z.to_nat k) ltac:(apply in_seq; lia)). rewrite Z2Nat.id in H4 by lia.
    destruct PE as [_ PE]. assert (P2 : 0 < 2 ^ (s + k)) by (apply Z.pow_pos_nonneg; lia).
    eapply fits_right; [exact H4| |].
    + apply limited. split; apply Z.div_le_mono; lia.
    + eapply shown; [|exact H6]. apply power_case_sound; auto. fold k. apply limit_case_sound; auto; try lia. apply above_sound. exact X.
Qed.
Theorem read_sound : read_off gm c = true -> right_results (results_of c) e (formula (op c) values) = true.
Proof.
  unfold read_off. intros H. destruct (results_of c) as [|r [|]]; try discriminate. destruct args as [|[|x [|]] [|]] eqn:A; try discriminate.
  inversion R as [|? ? R1 _]; subst. inversion R1 as [|? ? Rx _]; subst. pose proof (reads_sum_sound e gm X _ _ _ _ _ H) as S. rewrite number_form_value in S.
  specialize (S Rx). cbv beta in S. cbn [map]. destruct (formula (op c) [[value e x]]) as [|y [|]]; try discriminate. apply right_one, now_right. exact S.
Qed.
Theorem larger_sound : larger gm c = true -> right_results (results_of c) e (formula (op c) values) = true.
Proof.
  unfold larger. intros H. destruct (op c) eqn:O; try discriminate. destruct (results_of c) as [|r [|]]; try discriminate. destruct args as [|[|x [|]] [|]] eqn:A; try discriminate.
  inversion R as [|? ? R1 _]; subst. inversion R1 as [|? ? Rx _]; subst. inversion Pr as [|? ? P1 _]; subst. inversion P1 as [|? ? Px _]; subst.
  destruct (standard 1 (bits x)) as [s|] eqn:S; [|discriminate]. apply andb_prop in H as [H1 H2]. cbn [map formula]. apply right_one. unfold in_range in Rx.
  eapply fits_right; [exact H1|lia|]. pose proof (limit_case_sound e gm X s (forms_of x) 0 (lo x) (hi x) (Some 1) None (forms_of r) (value e x)) as L.
  eapply shown in L; [|apply proper_bits; exact Px|symmetry; apply number_decoded; exact S|exact Rx|lia|exact H2].
  change (2 ^ 0) with 1 in L. rewrite Z.div_1_r in L. exact L.
Qed.
Lemma exponent_case_sound fs lo hi r P Q x : all_bits (map fv fs) -> from_bits (map fv fs) = x -> lo <= x <= hi -> 1 <= lo -> 1 <= r ->
  sound_for e (P (Z.log2 x / r)) Q -> sound_for e (exponent_case fs lo hi r P) Q.
Proof.
  intros B D I L1 R1 S m v m' H A. unfold exponent_case in H. destruct (number_range m false fs) as [a0 b0] eqn:N.
  pose proof (number_range_sound e _ _ _ A B _ _ N) as NR. rewrite decode_unsigned, D in NR.
  destruct (Z.ltb_spec (Z.min b0 hi) (Z.max a0 lo)); [lia|]. destruct (Z.eqb_spec (Z.log2 (Z.max a0 lo) / r) (Z.log2 (Z.min b0 hi) / r)) as [E|].
  - assert (Z.log2 (Z.max a0 lo) / r <= Z.log2 x / r) by (apply Z.div_le_mono; [lia|apply Z.log2_le_mono; lia]).
    assert (Z.log2 x / r <= Z.log2 (Z.min b0 hi) / r) by (apply Z.div_le_mono; [lia|apply Z.log2_le_mono; lia]).
    replace (Z.log2 (Z.max a0 lo) / r) with (Z.log2 x / r) in H by lia. exact (S m v m' H A).
  - injection H as <- <-. split; auto. intros K. destruct (ask_or_lose_not fs m K).
Qed.
Theorem scaled_sound ms : scaled gm c ms = true -> right_results (results_of c) e (formula (op c) values) = true.
Proof.
  unfold scaled. intros H. destruct (op c) as [| | | | | | | | |t_lo t b r| | |] eqn:O; try discriminate. destruct (results_of c) as [|y [|power [|]]]; try discriminate.
  destruct args as [|[|x [|]] [|]] eqn:A; try discriminate.
  inversion R as [|? ? R1 _]; subst. inversion R1 as [|? ? Rx _]; subst. inversion Pr as [|? ? P1 _]; subst. inversion P1 as [|? ? Px _]; subst.
  destruct (standard 1 (bits x)) as [[|]|] eqn:S; try discriminate. destruct (standard 1 (bits power)) as [[|]|] eqn:SP; try discriminate.
  repeat (apply andb_prop in H as [H ?H]). apply Z.leb_le in H, H8, H7, H5, H4. apply Z.eqb_eq in H6. rename H0 into F, H1 into M, H2 into E, H3 into W, H6 into Len. unfold in_range in Rx.
  pose proof (proper_bits e x Px) as B. pose proof (number_decoded e x false S) as D. rewrite decode_unsigned in D. set (v := value e x) in *.
  cbn [map formula]. fold v. set (k := Z.log2 v / r) in *. assert (K0 : 0 <= k) by (apply Z.div_pos; [apply Z.log2_nonneg|lia]).
  assert (KT : k <= Z.log2 (hi x) / r) by (apply Z.div_le_mono; [lia|apply Z.log2_le_mono; lia]).
  (* the power *)
  assert (EB : bits_are (2 ^ k) (map fv (forms_of power)) = true).
  { eapply shown; [|exact E]. eapply exponent_case_sound with (x := v); eauto; try lia. fold k. intros m w m' Q Ag. unfold power_bits_case in Q.
    destruct (forms_known gm (forms_of power) m) as [[l|] m1] eqn:K; destruct (forms_known_sound e gm X _ _ _ _ K Ag) as [A1 V]; injection Q as <- <-; split; auto.
    - rewrite (V _ eq_refl). destruct (bits_are (2 ^ k) l); auto. discriminate.
    - intros Z0. destruct (ask_or_lose_not _ _ Z0). }
  assert (RP : right e power (2 ^ k)).
  { assert (0 < 2 ^ k) by (apply Z.pow_pos_nonneg; lia). assert (2 ^ k <= 2 ^ (Z.log2 (hi x) / r)) by (apply Z.pow_le_mono_r; lia). repeat split.
    - rewrite (number_decoded e power false SP). apply bits_are_value; auto. unfold forms_of. rewrite !map_length.
      unfold in_width in *. apply andb_prop in W as [W1 W2]. apply Z.leb_le in W1. apply Z.ltb_lt in W2. apply andb_true_iff. split; [apply Z.leb_le|apply Z.ltb_lt]; lia.
    - unfold holds. rewrite !andb_true_iff. repeat split; try apply Z.leb_le; try lia. apply orb_true_iff. right. unfold is_power. rewrite Z.log2_pow2 by lia.
      apply andb_true_iff. split; [apply Z.ltb_lt; lia|apply Z.eqb_refl].
    - apply bits_proper. eapply bits_are_bits. exact EB. }
  (* the mantissa *)
  assert (P2 : 0 < 2 ^ (r * k)) by (apply Z.pow_pos_nonneg; nia).
  assert (MB : bits_are (v * 2 ^ b / 2 ^ (r * k)) (map fv ms) = true).
  { eapply shown; [|exact M]. eapply exponent_case_sound with (x := v); eauto; try lia. fold k. intros m w m' Q Ag. unfold mantissa_case in Q. injection Q as <- <-. split; auto.
    destruct (copies gm m (shifted_form (forms_of x) b (r * k)) 0 ms) eqn:C; [|intros Z0; destruct (ask_or_lose_not _ _ Z0)]. intros _.
    apply shifted_bits; [nia|]. intros j J. rewrite map_length in J. rewrite (copies_sound e gm X m _ _ Ag _ C j J). cbn [Nat.add]. unfold shifted_form.
    rewrite Z.mul_pow2_bits by nia. destruct (Z.ltb_spec (Z.of_nat j - b + r * k) 0) as [N|N].
    - rewrite Z.testbit_neg_r by lia. reflexivity.
    - rewrite form_at_value, <- decode_bit by exact B. rewrite decode_unsigned, <- D. do 2 f_equal. rewrite Z2Nat.id by lia. lia. }
  assert (VR : 2 ^ (r * k) <= v < 2 ^ (r * k + r)).
  { pose proof (Z.log2_spec v ltac:(lia)) as [L1 L2]. pose proof (Z.div_mod (Z.log2 v) r) as DM. pose proof (Z.mod_pos_bound (Z.log2 v) r) as MP. fold k in DM. split.
    - etransitivity; [|exact L1]. apply Z.pow_le_mono_r; lia.
    - eapply Z.lt_le_trans; [exact L2|]. apply Z.pow_le_mono_r; lia. }
  assert (MR : 2 ^ b <= v * 2 ^ b / 2 ^ (r * k) <= 2 ^ (b + r) - 1).
  { assert (0 < 2 ^ b) by (apply Z.pow_pos_nonneg; lia). split.
    - apply Z.div_le_lower_bound; nia.
    - enough (v * 2 ^ b / 2 ^ (r * k) < 2 ^ (b + r)) by lia. apply Z.div_lt_upper_bound; auto. rewrite Z.pow_add_r in VR |- * by nia. nia. }
  assert (ML : from_bits (map fv ms) = v * 2 ^ b / 2 ^ (r * k)).
  { rewrite <- decode_unsigned. apply bits_are_value; auto. rewrite map_length. unfold in_width. rewrite Len. assert (0 < 2 ^ b) by (apply Z.pow_pos_nonneg; lia).
    apply andb_true_iff. split; [apply Z.leb_le|apply Z.ltb_lt]; lia. }
  pose proof (reads_sum_sound e gm X _ _ _ _ _ F) as FS. rewrite joined_value in FS.
  assert (CV : columns_value e (map (fun f => [f]) ms) = from_bits (map fv ms)).
  { clear. induction ms as [|f ms I]; cbn [map columns_value column_value from_bits]; auto. rewrite I. lia. }
  rewrite CV, ML in FS. specialize (FS MR). cbv beta in FS. replace (1 <=? v) with true by (symmetry; apply Z.leb_le; lia).
  destruct (entry t (v * 2 ^ b / 2 ^ (r * k) - t_lo)) as [|zz [|]]; try discriminate. apply now_right in FS. destruct FS as (Y1 & Y2 & Y3). destruct RP as (Q1 & Q2 & Q3).
  cbn [right_results]. rewrite Y1, Y2, Y3, Q1, Q2, Q3, !Z.eqb_refl. auto.
Qed.
Theorem chosen_sound : chosen gm c = true -> right_results (results_of c) e (formula (op c) values) = true.
Proof.
  unfold chosen. intros H. destruct (op c) eqn:O; try discriminate. destruct (results_of c) as [|r [|]]; try discriminate. destruct args as [|[|power [|]] [|xs [|]]] eqn:A; try discriminate.
  repeat (apply andb_prop in H as [H ?H]). rename H0 into C, H1 into F, H2 into L, H3 into SP. destruct (standard 1 (bits power)) as [[|]|] eqn:S; try discriminate. apply Nat.eqb_eq in L.
  inversion Ho as [|? ? Ho1 _]; subst. inversion Ho1 as [|? ? HP _]; subst. specialize (HP H).
  inversion Pr as [|? ? Pr1 Pr']; subst. inversion Pr1 as [|? ? PP _]; subst. inversion Pr' as [|? ? Px _]; subst. inversion R as [|? ? _ R']; subst. inversion R' as [|? ? Rx _]; subst.
  pose proof (proper_bits e power PP) as BP. pose proof (number_decoded e power false S) as DP. rewrite decode_unsigned in DP. rewrite DP in HP. cbn [map formula].
  set (k := Z.log2 (from_bits (map fv (forms_of power)))) in *. assert (K0 : 0 <= k) by apply Z.log2_nonneg.
  assert (KP : value e power = 2 ^ k). { rewrite DP. unfold is_power in HP. apply andb_prop in HP as [_ HP]. apply Z.eqb_eq in HP. exact HP. }
  assert (KL : (Z.to_nat k < length xs)%nat).
  { rewrite L. pose proof (from_bits_range _ BP) as FR. unfold modulus in FR. unfold forms_of in FR. rewrite !map_length in FR. fold (forms_of power) in FR.
    rewrite <- DP, KP in FR. destruct FR as [_ FR]. apply Z.pow_lt_mono_r_iff in FR; lia. }
  assert (IP : is_power (value e power) = true) by (rewrite DP; exact HP). rewrite IP. unfold entry. rewrite KP, Z.log2_pow2, map_length by lia.
  replace ((0 <=? k) && (k <? Z.of_nat (length xs))) with true by (symmetry; apply andb_true_iff; split; [apply Z.leb_le|apply Z.ltb_lt]; lia).
  apply right_one. set (x := nth (Z.to_nat k) xs no_number).
  assert (In x xs) as IX by (apply nth_In; exact KL). pose proof (map_nth (value e) xs no_number (Z.to_nat k)) as N. change (value e no_number) with 0 in N. fold x in N. rewrite N.
  rewrite forallb_forall in F. specialize (F x IX). apply andb_prop in F as [F1 F2]. rewrite Forall_forall in Rx, Px. specialize (Rx x IX). specialize (Px x IX). unfold in_range in Rx.
  eapply fits_right; [exact F2|exact Rx|]. eapply shown; [|exact C]. apply power_case_sound; auto. fold k. intros m w m' Q Ag. injection Q as <- <-. split; auto. fold x.
  destruct (copies gm m (bit_form x) 0 (forms_of r)) eqn:K; [|discriminate]. intros _.
  replace (value e x) with (value e x / 2 ^ 0) by apply Z.div_1_r. apply shifted_bits; [lia|]. intros j J. rewrite map_length in J.
  rewrite (copies_sound e gm X m _ _ Ag _ K j J). cbn [Nat.add Z.add]. apply has_bits_form; auto.
Qed.
End Rule.

(* ---- by every assignment ---- *)
Lemma weighted_same e e' r : (forall t, In t r -> e (fst t) = e' (fst t)) -> weighted e r = weighted e' r.
Proof. induction r as [|[n w] r I]; simpl; intros H; auto. rewrite I by auto. pose proof (H (n, w) (or_introl eq_refl)) as E. simpl in E. rewrite E. auto. Qed.
Lemma below_In n r t : below_ n r = true -> In t r -> (fst t < n)%positive.
Proof. unfold below_. rewrite forallb_forall. intros H I. apply Pos.ltb_lt. auto. Qed.

(* whatever satisfies the gates' equations is what evaluation finds *)
Lemma evaluate_agrees gs : forall next m e, ordered gs next = true -> equations gs next e ->
  (forall n, (n < next)%positive -> look m n = e n) ->
  forall n, (n < length_pos gs next)%positive -> look (evaluate gs next m) n = e n.
Proof.
  induction gs as [|g gs I]; intros next m e O E A n L; simpl in *; auto.
  apply andb_prop in O as [O1 O2]. destruct E as [E1 E2]. apply I; auto. intros x X. unfold look.
  destruct (Pos.eq_dec x next) as [->|N].
  - rewrite Map.gss. rewrite E1. unfold fires. f_equal. apply weighted_same. intros t T. apply A. eapply below_In; eauto.
  - rewrite Map.gso by auto. apply A. lia.
Qed.
Lemma every_sound left : forall next m P e, every left next m P = true -> (forall n, (n < next)%positive -> look m n = e n) ->
  exists m', P m' = true /\ forall n, (Pos.to_nat n < Pos.to_nat next + left)%nat -> look m' n = e n.
Proof.
  induction left as [|left I]; intros next m P e H A; simpl in H.
  - exists m. split; auto. intros n L. apply A. lia.
  - apply andb_prop in H as [H0 H1].
    assert (X : forall b, e next = b -> forall n, (n < Pos.succ next)%positive -> look (Map.add next b m) n = e n).
    { intros b B n L. unfold look. destruct (Pos.eq_dec n next) as [->|N]; [rewrite Map.gss; auto|rewrite Map.gso by auto; apply A; lia]. }
    destruct (e next) eqn:B.
    + destruct (I _ _ _ e H1 (X true eq_refl)) as (m' & P' & A'). exists m'. split; auto. intros n L. apply A'. lia.
    + destruct (I _ _ _ e H0 (X false eq_refl)) as (m' & P' & A'). exists m'. split; auto. intros n L. apply A'. lia.
Qed.
Lemma bit_value_same e e' x n : below_ n (terms x) = true -> (forall k, (k < n)%positive -> e k = e' k) -> bit_value e x = bit_value e' x.
Proof. intros B A. unfold bit_value. f_equal. apply weighted_same. intros t T. apply A. eapply below_In; eauto. Qed.
Lemma value_same e e' x n : bounded n x = true -> (forall k, (k < n)%positive -> e k = e' k) -> value e x = value e' x.
Proof.
  unfold bounded, value. rewrite forallb_forall. intros B A. f_equal. apply map_ext_in. intros t T. rewrite (bit_value_same e e' t n) by auto. auto.
Qed.
Lemma proper_same e e' x n : bounded n x = true -> (forall k, (k < n)%positive -> e k = e' k) -> proper e x = proper e' x.
Proof.
  unfold bounded, proper. intros B A. induction (bits x) as [|t ts I]; cbn [forallb] in *; auto. apply andb_prop in B as [B1 B2].
  rewrite (bit_value_same e e' t n) by auto. rewrite I by auto. auto.
Qed.
Lemma right_results_same r e e' n v : forallb (bounded n) r = true -> (forall k, (k < n)%positive -> e k = e' k) ->
  right_results r e v = right_results r e' v.
Proof.
  revert v. induction r as [|x r I]; intros v B A; destruct v; simpl in *; auto. apply andb_prop in B as [B1 B2].
  rewrite (value_same e e' x n), (proper_same e e' x n) by auto. rewrite I by auto. auto.
Qed.

Lemma enumerated_sound c gs e : enumerated c gs = true -> equations gs (inputs c) e ->
  holds_rows (arguments_of c) (map (map (value e)) (arguments_of c)) = true -> forallb (forallb (proper e)) (arguments_of c) = true ->
  right_results (results_of c) e (formula (op c) (map (map (value e)) (arguments_of c))) = true.
Proof.
  unfold enumerated. intros H E R Pr. repeat (apply andb_prop in H as [H ?H]).
  rename H into O, H0 into Ev, H1 into Br, H2 into Ba.
  destruct (every_sound _ 1%positive (Map.empty bool) (right_here c gs) e Ev) as (m & M & A); [intros; lia|].
  set (e' := look (evaluate gs (inputs c) m)) in *.
  assert (Ag : forall k, (k < length_pos gs (inputs c))%positive -> e' k = e k).
  { apply evaluate_agrees; auto. intros n L. apply A. lia. }
  unfold right_here in M. fold e' in M. rewrite forallb_forall in Ba.
  assert (Same : map (map (value e')) (arguments_of c) = map (map (value e)) (arguments_of c)).
  { apply map_ext_in. intros x X. apply map_ext_in. intros y Y. specialize (Ba x X). rewrite forallb_forall in Ba. eapply value_same; eauto. }
  assert (Pr' : forallb (forallb (proper e')) (arguments_of c) = true).
  { apply forallb_forall. intros x X. apply forallb_forall. intros y Y. specialize (Ba x X). rewrite forallb_forall in Ba.
    rewrite (proper_same e' e y _ (Ba y Y) Ag). rewrite forallb_forall in Pr. specialize (Pr x X). rewrite forallb_forall in Pr. auto. }
  rewrite Same, R, Pr' in M. simpl in M. rewrite (right_results_same _ _ e _ _ Br Ag) in M. exact M.
Qed.

Lemma all_in_range e a : holds_rows a (map (map (value e)) a) = true ->
  Forall (Forall (in_range e)) a /\ Forall (Forall (fun x => hot x = true -> is_power (value e x) = true)) a.
Proof.
  induction a as [|r a I]; cbn [holds_rows map]; intros H; [split; constructor|]. apply andb_prop in H as [H1 H2]. destruct (I H2) as [A B].
  assert (F : Forall (fun x => holds x (value e x) = true) r).
  { clear -H1. induction r as [|x r J]; cbn [map combine forallb fst snd] in *; [constructor|]. apply andb_prop in H1 as [H1 H2]. constructor; auto. }
  split; constructor; auto; rewrite Forall_forall in F |- *; intros x J; specialize (F x J).
  - apply holds_ends. exact F.
  - intros Q. eapply holds_power; eauto.
Qed.
Theorem cell_sound c e : check_cell c = true -> equations (gates_of c) (inputs c) e ->
  holds_rows (arguments_of c) (map (map (value e)) (arguments_of c)) = true -> forallb (forallb (proper e)) (arguments_of c) = true ->
  premise (op c) (map (map (value e)) (arguments_of c)) ->
  right_results (results_of c) e (formula (op c) (map (map (value e)) (arguments_of c))) = true.
Proof.
  unfold check_cell. intros H E R Pr P. apply andb_prop in H as [_ H].
  assert (X : explains e (index_gates (gates_of c) (inputs c) (Map.empty gate))).
  { apply index_gates_sound; auto. intros n g F. rewrite Map.gempty in F. discriminate. }
  destruct (all_in_range e _ R) as [A B].
  assert (Q : Forall (Forall (fun x => proper e x = true)) (arguments_of c)).
  { apply Forall_forall. intros r I. apply Forall_forall. intros x J. rewrite forallb_forall in Pr. specialize (Pr r I). rewrite forallb_forall in Pr. auto. }
  destruct (how c).
  - eapply enumerated_sound; eauto.
  - eapply added_sound; eauto.
  - eapply read_sound; eauto.
  - eapply larger_sound; eauto.
  - eapply scaled_sound; eauto.
  - eapply chosen_sound; eauto.
Qed.
