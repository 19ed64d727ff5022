(* The circuit of a program of stages, its sizes as powers of n, and so the main theorem: Flow_proof.v gives FlowAR's. *)
Require Import ZArith List Lia Bool.
Import ListNotations.
Require Import Threshold Parallel Bits Cells Tables Arithmetic FlowAR Layers Flow_proof Statement.
Open Scope Z_scope.

(* 0 <= x <= N^i *)
Definition power (N : Z) (i : nat) (x : Z) := 0 <= x <= N ^ Z.of_nat i.
Section Powers.
Variable N : Z.
Hypothesis two : 2 <= N.
Lemma power_mul i j x y : power N i x -> power N j y -> power N (i + j) (x * y).
Proof. intros [A B] [C D]. split; [nia|]. rewrite Nat2Z.inj_add, Z.pow_add_r by lia. apply Z.mul_le_mono_nonneg; lia. Qed.
Lemma power_more i j x : (i <= j)%nat -> power N i x -> power N j x.
Proof. intros L [A B]. split; auto. eapply Z.le_trans; [exact B|]. apply Z.pow_le_mono_r; lia. Qed.
Lemma power_add i j x y : power N i x -> power N j y -> power N (1 + (i + j)) (x + y).
Proof.
  intros X Y. destruct (power_more i (i + j) x ltac:(lia) X) as [A B], (power_more j (i + j) y ltac:(lia) Y) as [C D]. split; [lia|].
  rewrite Nat2Z.inj_add, Z.pow_add_r by lia. change (N ^ Z.of_nat 1) with (N ^ 1). rewrite Z.pow_1_r. nia.
Qed.
Lemma power_constant (z : nat) : power N z (Z.of_nat z).
Proof.
  split; [lia|]. assert (Z.of_nat z < 2 ^ Z.of_nat z) by (apply Z.pow_gt_lin_r; lia).
  assert (2 ^ Z.of_nat z <= N ^ Z.of_nat z) by (apply Z.pow_le_mono_l; lia). lia.
Qed.
Lemma power_le i x y : 0 <= x <= y -> power N i y -> power N i x.
Proof. unfold power. lia. Qed.
End Powers.

(* sizes: k, P, n0 <= N^e and so on give all of them below one power of N *)
Lemma polynomial (d e : nat) : exists x, forall N w b k q n0, 2 <= N -> power N e b -> power N e k -> power N e q -> power N e n0 ->
  0 <= Z.of_nat w <= 2 * b -> 2 ^ Z.of_nat w <= 4 * b ->
  n0 * Z.of_nat w + program_size w b (Z.of_nat d) n0 k q + q * Z.of_nat w <= N ^ Z.of_nat x /\ cell_weight w b k <= N ^ Z.of_nat x.
Proof.
  assert (E : exists i j, forall N w b k q n0, 2 <= N -> power N e b -> power N e k -> power N e q -> power N e n0 ->
    0 <= Z.of_nat w <= 2 * b -> 2 ^ Z.of_nat w <= 4 * b ->
    power N i (n0 * Z.of_nat w + program_size w b (Z.of_nat d) n0 k q + q * Z.of_nat w) /\ power N j (cell_weight w b k)).
  { eexists. eexists. intros N w b k q n0 two B K Q I Hw HW.
    assert (Pw : power N (2 + e) (Z.of_nat w)). { eapply power_le; [exact two|exact Hw|]. apply power_mul; auto. apply (power_constant N two 2). }
    assert (PW : power N (4 + e) (2 ^ Z.of_nat w)).
    { eapply power_le; [exact two|split; [apply Z.pow_nonneg; lia|exact HW]|]. apply power_mul; auto. apply (power_constant N two 4). }
    pose proof (power_constant N two 1) as c1. pose proof (power_constant N two 2) as c2. pose proof (power_constant N two 3) as c3. pose proof (power_constant N two 4) as c4.
    pose proof (power_constant N two d) as cd. change (Z.of_nat 1) with 1 in c1. change (Z.of_nat 2) with 2 in c2. change (Z.of_nat 3) with 3 in c3. change (Z.of_nat 4) with 4 in c4.
    unfold program_size, cell_size, cell_weight. split.
    - repeat first [eassumption | eapply power_add; [exact two| |] | eapply power_mul].
    - repeat first [eassumption | eapply power_add; [exact two| |] | eapply power_mul]. }
  destruct E as (i & j & E). exists (i + j)%nat. intros N w b k q n0 two B K Q I Hw HW. destruct (E N w b k q n0) as [[_ A] [_ C]]; auto.
  split; eapply Z.le_trans; try eassumption; apply Z.pow_le_mono_r; lia.
Qed.

(* ---- a program of d stages on tables of at most k rows and columns, for k = n^g ---- *)
Definition given (a : arithmetic) (n0 : nat) (u : list Z) : Prop := length u = n0 /\ Forall (fits (bits a)) u.
Definition terms_of (k : nat) : nat := (6 * k * k * k)%nat.
Definition largest_of (a : arithmetic) (k : nat) : Z := 256 * Z.of_nat k * Z.of_nat k * Z.of_nat k * P a * P a * P a * P a.
Lemma fits_P a x : 1 <= p a -> fits (bits a) x -> Z.abs x <= P a.
Proof.
  intros p1 Y. unfold fits, bits in Y. rewrite Z2Nat.id in Y by lia. unfold P. replace (p a) with (Z.succ (p a - 1)) by lia. rewrite Z.pow_succ_r by lia. lia.
Qed.
Lemma given_entry a n0 u y : 1 <= p a -> given a n0 u -> (y < n0)%nat -> Z.abs (nth y u 0) <= P a.
Proof. intros p1 [U F] Hy. apply fits_P; auto. rewrite Forall_forall in F. apply F, nth_In. rewrite U. exact Hy. Qed.

Theorem circuits_of_programs (d g : nat) : exists x, forall (n : nat) (a : arithmetic) (n0 r c : nat) Vs V, let k := (n ^ g)%nat in
  (2 <= n)%nat -> (2 <= k)%nat -> 1 <= p a -> 2 ^ p a <= Z.of_nat k -> (n0 <= S (k * k))%nat -> (r * c <= k * k)%nat ->
  can (list Z) (given a n0) (fun u => u) n0 k (terms_of k) (largest_of a k) d Vs -> In (Table r c (P a) V) Vs ->
  exists C : circuit, depth C = (3 * d + 2)%nat /\ Z.of_nat (size C) <= Z.of_nat n ^ Z.of_nat x /\ weights_within (Z.of_nat n ^ Z.of_nat x) C /\
    forall u, given a n0 u -> run C (encode_all (bits a) u) = encode_all (bits a) (flatten r c (V u)).
Proof.
  set (e := (8 + 10 * g + 10)%nat). destruct (polynomial d e) as [x Poly]. exists x.
  intros n a n0 r c Vs V k two k2n p1 pn small_in small_out C Y. set (q := terms_of k) in *. set (b := largest_of a k) in *.
  set (w := S (S (Z.to_nat (Z.log2 b)))).
  assert (P2 : 2 <= P a) by (unfold P; replace 2 with (2 ^ 1) at 1 by lia; apply Z.pow_le_mono_r; lia).
  assert (k2 : 2 <= Z.of_nat k) by lia. assert (two' : 2 <= Z.of_nat n) by lia.
  assert (kn : power (Z.of_nat n) g (Z.of_nat k)) by (unfold k, power; rewrite Nat2Z.inj_pow; lia).
  assert (Pn : power (Z.of_nat n) g (P a)) by (eapply power_le; [exact two'|split; [lia|]|exact kn]; exact pn).
  assert (bn : power (Z.of_nat n) (8 + g + g + g + g + g + g + g) b).
  { unfold b, largest_of. repeat (apply power_mul; [exact two'| |assumption]). split; [lia|]. change 256 with (2 ^ 8). change (Z.of_nat 8) with 8. apply Z.pow_le_mono_l. lia. }
  assert (b_of : b = 256 * (Z.of_nat k * Z.of_nat k * Z.of_nat k) * (P a * P a * P a) * P a) by (unfold b, largest_of; ring).
  assert (K3 : 1 <= Z.of_nat k * Z.of_nat k * Z.of_nat k) by nia. assert (P3 : 1 <= P a * P a * P a) by nia.
  assert (KP : 1 <= (Z.of_nat k * Z.of_nat k * Z.of_nat k) * (P a * P a * P a)) by nia.
  assert (Pb : 2 * P a <= b) by (rewrite b_of; nia). clear K3 P3 KP b_of.
  assert (b_pos : 0 < b) by lia.
  destruct (Z.log2_spec b b_pos) as [l1 l2]. assert (l0 : 0 <= Z.log2 b) by apply Z.log2_nonneg. pose proof (Z.log2_lt_lin b b_pos) as l3.
  assert (w_of : Z.of_nat w = Z.log2 b + 2) by (unfold w; lia).
  assert (b_fits : b < 2 ^ (Z.of_nat w - 1)) by (rewrite w_of; replace (Z.log2 b + 2 - 1) with (Z.succ (Z.log2 b)) by lia; exact l2).
  assert (w_pow : 2 ^ Z.of_nat w <= 4 * b) by (rewrite w_of, Z.pow_add_r by lia; lia).
  assert (p_le : (bits a <= w)%nat).
  { assert (p a <= Z.log2 b) by (rewrite <- (Z.log2_pow2 (p a)) by lia; apply Z.log2_le_mono; unfold P in *; lia). unfold bits. lia. }
  assert (p_pos : (0 < bits a)%nat) by (unfold bits; lia).
  destruct (realise (list Z) (given a n0) (fun u => u) n0 k q b (fun u U => proj1 U) w (bits a) p_pos p_le b_pos b_fits) with (2 := C) (3 := Y) as (Circ & D1 & D2 & D3 & D4).
  { intros u [U F]. eapply Forall_impl; [|exact F]. intros z Hz. split; [exact Hz|]. pose proof (fits_P a z p1 Hz). lia. }
  { unfold q, terms_of. clear - small_out k2n. nia. }
  destruct (Poly (Z.of_nat n) w b (Z.of_nat k) (Z.of_nat q) (Z.of_nat n0) two') as [Q1 Q2].
  { eapply power_more; [exact two'| |exact bn]. unfold e. lia. }
  { eapply power_more; [exact two'| |exact kn]. unfold e. lia. }
  { eapply power_more with (i := (6 + g + g + g)%nat); [exact two'|unfold e; lia|]. unfold q, terms_of. rewrite !Nat2Z.inj_mul. repeat (apply power_mul; [exact two'| |exact kn]).
    apply power_constant. exact two'. }
  { eapply power_more with (i := (1 + (1 + (g + g)))%nat); [exact two'|unfold e; lia|].
    eapply power_le with (y := 1 + Z.of_nat k * Z.of_nat k); [exact two'| |].
    - split; [lia|]. rewrite <- Nat2Z.inj_mul. lia.
    - apply power_add; [exact two'|apply (power_constant _ two' 1)|apply power_mul; auto]. }
  { lia. } { exact w_pow. }
  exists Circ. split; [exact D1|]. split; [eapply Z.le_trans; [exact D2|exact Q1]|]. split; [eapply within_weaken; [exact Q2|exact D3]|exact D4].
Qed.
(* a label, then a table *)
Lemma can_begin a n0 k q b r c : 1 <= p a -> n0 = S (r * c) ->
  can (list Z) (given a n0) (fun u => u) n0 k q b 0 ([Table 1 1 (P a) (fun u => (fun _ _ => nth 0 u 0) : tab)] ++
    [Table r c (P a) (fun u => (fun i j => nth (S (i * c + j)) u 0) : tab)]).
Proof.
  intros p1 E. apply can_both; apply can_start; intros i j Hi Hj.
  - exists 0%nat. split; [lia|]. intros u U. split; [reflexivity|]. eapply given_entry; eauto. lia.
  - assert (In_ : (S (i * c + j) < n0)%nat) by nia. exists (S (i * c + j)). split; [exact In_|]. intros u U. split; [reflexivity|]. eapply given_entry; eauto.
Qed.
(* n^g is beyond n^c and a constant *)
Lemma beyond n c h : (2 <= n)%nat -> (n ^ c <= n ^ (c + h + 2) /\ h + 3 <= n ^ (c + h + 2))%nat.
Proof.
  intros two. split; [apply Nat.pow_le_mono_r; lia|]. transitivity (2 ^ (h + 2))%nat; [pose proof (Nat.pow_gt_lin_r 2 (h + 2)); lia|].
  transitivity (n ^ (h + 2))%nat; [apply Nat.pow_le_mono_l; lia|apply Nat.pow_le_mono_r; lia].
Qed.

Theorem flowar_main : flowar_in_constant_depth.
Proof.
  intros A c. set (g := (c + halves_of A + 2)%nat).
  set (d := (scales_of A * (halves_of A * (16 + 22 * (encoder_blocks A + decoder_blocks A)) +
                      euler_steps A * (halves_of A * (8 + 22 * flow_blocks_of A) + 1)))%nat).
  destruct (circuits_of_programs d g) as [x H]. exists x.
  intros n a m two (A1 & A2 & A3 & A4 & A5 & A6 & A7) Sz (p1 & pf & pn).
  destruct (beyond n c (halves_of A) two) as [nc kh]. change (c + halves_of A + 2)%nat with g in nc, kh.
  set (k := (n ^ g)%nat) in *. specialize (H n a (inputs_ m)). cbv zeta in H. change (n ^ g)%nat with k in H. clearbody k.
  assert (small : (all_tokens m <= k /\ channels m <= k /\ heads m <= k /\ 2 * pairs_of m <= k /\ width m <= k /\ hidden m <= k /\
    flow_heads m <= k /\ 2 * flow_pairs m <= k /\ flow_width m <= k /\ flow_hidden m <= k /\ S (length (halves m)) <= k)%nat) by (unfold sizes_within in Sz; lia).
  pose proof (can_begin a (inputs_ m) k (terms_of k) (largest_of a k) (all_tokens m) (channels m) p1 eq_refl) as start.
  destruct (can_flowar (list Z) (given a (inputs_ m)) (fun u => u) (inputs_ m) k (terms_of k) (largest_of a k) (fun u U => proj1 U) a p1 pf ltac:(lia) ltac:(apply Z.le_refl) ltac:(apply Nat.le_refl) m small
    (fun u => nth 0 u 0) (P a) 0 _ (fun u => (fun i j => nth (S (i * channels m + j)) u 0) : tab) A7 start (or_introl eq_refl) (or_intror (or_introl eq_refl)))
    as (Vs & y & C & Y & E).
  assert (stages : (flowar_stages m + 0 = d)%nat).
  { unfold flowar_stages, scale_stages, half_stages, transformer_stages, velocity_stages, d. rewrite A1, A2, A3, A4, A5, A6. lia. }
  rewrite stages in C. destruct small as (s1 & s2 & _).
  destruct (H (last (tokens m) 0%nat) (channels m) Vs y two ltac:(lia) p1 ltac:(lia)) with (3 := C) (4 := Y) as (Circ & D1 & D2 & D3 & D4).
  { unfold inputs_. apply le_n_S, Nat.mul_le_mono; lia. }
  { assert (last (tokens m) 0 <= all_tokens m)%nat.
    { unfold all_tokens. clear. induction (tokens m) as [|t ts I]; [auto|]. destruct ts; cbn [last fold_right] in *; lia. }
    apply Nat.mul_le_mono; lia. }
  exists Circ. split; [rewrite D1; unfold depth_of, d; lia|]. split; [exact D2|]. split; [exact D3|].
  intros u U. rewrite (D4 u U). f_equal. unfold last_map, flowar. rewrite E. reflexivity.
Qed.
