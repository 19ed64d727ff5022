(* Addition of numbers of any width in constant depth, with weights that do not grow with the width: counting columns,
   and looking ahead for the carries of two rows. *)
Require Import ZArith List Lia Bool Arith.
Import ListNotations.
Require Import Threshold Parallel Bits.
Open Scope Z_scope.

(* weights by position *)
Definition sparse (l : list (nat * Z)) : list Z := fold_right (fun t v => vadd (repeat 0 (fst t) ++ [snd t]) v) [] l.
Fixpoint total (l : list (nat * Z)) (x : list bool) : Z := match l with [] => 0 | (k, c) :: l' => c * b2z (nth k x false) + total l' x end.
Lemma dot_one k c x : dot (repeat 0 k ++ [c]) x = c * b2z (nth k x false).
Proof. revert x; induction k; destruct x; cbn [repeat app dot nth]; try (destruct x; cbn; lia); try (cbn; lia). rewrite IHk. lia. Qed.
Lemma dot_sparse l x : dot (sparse l) x = total l x.
Proof. induction l as [|[k c] l I]; cbn [sparse fold_right total fst snd]; [apply dot_nil|]. rewrite dot_vadd, dot_one. fold (sparse l). rewrite I. auto. Qed.
Lemma total_app l k x : total (l ++ k) x = total l x + total k x.
Proof. induction l as [|[i c] l I]; cbn [app total]; auto. rewrite I. lia. Qed.

(* sums over 0 .. n - 1 *)
Fixpoint sum (n : nat) (f : nat -> Z) : Z := match n with O => 0 | S n' => sum n' f + f n' end.
Lemma sum_ext n f g : (forall i, (i < n)%nat -> f i = g i) -> sum n f = sum n g.
Proof. induction n; cbn [sum]; intros H; auto. rewrite IHn, H by (intros; auto with arith). auto. Qed.
Lemma sum_scale n c f : sum n (fun i => c * f i) = c * sum n f.
Proof. induction n; cbn [sum]; [lia|]. rewrite IHn. lia. Qed.
Lemma sum_plus n f g : sum n (fun i => f i + g i) = sum n f + sum n g.
Proof. induction n; cbn [sum]; [lia|]. rewrite IHn. lia. Qed.
Lemma sum_none n f : (forall i, (i < n)%nat -> f i = 0) -> sum n f = 0.
Proof. induction n; cbn [sum]; intros H; auto. rewrite IHn, H by (intros; auto with arith). auto. Qed.
Lemma sum_single n k v : (k < n)%nat -> sum n (fun i => if Nat.eqb i k then v else 0) = v.
Proof.
  induction n; intros H; [lia|]. cbn [sum]. destruct (Nat.eq_dec k n) as [->|N].
  - rewrite sum_none, Nat.eqb_refl; [lia|]. intros i L. destruct (Nat.eqb_spec i n); auto. lia.
  - rewrite IHn by lia. destruct (Nat.eqb_spec n k); lia.
Qed.
Lemma total_range off c n x : total (map (fun i => ((off + i)%nat, c)) (seq 0 n)) x = c * sum n (fun i => b2z (nth (off + i) x false)).
Proof.
  induction n; [cbn; lia|]. rewrite seq_S, map_app, total_app, IHn. cbn [map total plus sum]. lia.
Qed.

(* ---- the sum of columns, each of at most two bits: depth 3, weights at most 2 for each node that is read ---- *)
Definition columns := list (list (nat * Z)).
Fixpoint columns_value (cs : columns) (x : list bool) : Z := match cs with [] => 0 | c :: cs' => total c x + 2 * columns_value cs' x end.
Definition pair_layer (cs : columns) : layer := flat_map (fun c => [(sparse c, 1); (sparse c, 2)]) cs.
(* a carry made in column i arrives behind column j *)
Definition carry_gate (i j : nat) : gate :=
  if Nat.leb i j then (sparse (((2 * i + 1)%nat, 1) :: flat_map (fun k => [((2 * k)%nat, 1); ((2 * k + 1)%nat, -1)]) (seq (S i) (j - i))), Z.of_nat (j - i) + 1)
  else ([], 1).
Definition carry_layer (n : nat) : layer := wait (2 * n) ++ flat_map (fun j => map (fun i => carry_gate i j) (seq 0 n)) (seq 0 n).
Definition carried (n j : nat) (c : Z) : list (nat * Z) := map (fun i => ((2 * n + j * n + i)%nat, c)) (seq 0 n).
Definition sum_gate (n j : nat) : gate :=
  (sparse ([((2 * j)%nat, 1); ((2 * j + 1)%nat, 1)] ++ match j with O => [] | S j' => carried n j' 1 end ++ carried n j (-2)), 1).
Definition add_two (cs : columns) : circuit :=
  let n := length cs in [pair_layer cs; carry_layer n; map (sum_gate n) (seq 0 n)].

Lemma nth_pairs {A} (f g : A -> bool) l d : forall t, (t < length l)%nat ->
  nth (2 * t) (flat_map (fun c => [f c; g c]) l) false = f (nth t l d) /\ nth (2 * t + 1) (flat_map (fun c => [f c; g c]) l) false = g (nth t l d).
Proof.
  induction l as [|a l I]; intros t H; cbn [length] in H; [lia|]. destruct t as [|t]; [split; reflexivity|].
  destruct (I t ltac:(lia)) as [A1 A2]. cbn [flat_map app nth]. rewrite <- A1, <- A2.
  split; [replace (2 * S t)%nat with (S (S (2 * t))) by lia|replace (2 * S t + 1)%nat with (S (S (2 * t + 1))) by lia]; reflexivity.
Qed.
Lemma nth_grid (f : nat -> nat -> bool) w : forall n start j i, (j < n)%nat -> (i < w)%nat ->
  nth (j * w + i) (flat_map (fun j => map (fun i => f i j) (seq 0 w)) (seq start n)) false = f i (start + j)%nat.
Proof.
  induction n as [|n I]; intros start j i J L; [lia|]. cbn [seq flat_map]. destruct j as [|j].
  - rewrite app_nth1 by (rewrite map_length, seq_length; lia). cbn [Nat.mul plus]. rewrite (nth_indep _ false (f 0%nat start)) by (rewrite map_length, seq_length; lia).
    rewrite (map_nth (fun i => f i start)), seq_nth by lia. f_equal; lia.
  - rewrite app_nth2 by (rewrite map_length, seq_length; lia). rewrite map_length, seq_length.
    replace (S j * w + i - w)%nat with (j * w + i)%nat by lia. rewrite I by lia. f_equal. lia.
Qed.

Section TwoRows.
Variables (cs : columns) (x : list bool).
Hypothesis two : Forall (fun c => 0 <= total c x <= 2) cs.
Let n := length cs.
Let s (t : nat) : Z := total (nth t cs []) x.
Let P (t : nat) : Z := b2z (1 <=? s t).
Let G (t : nat) : Z := b2z (2 <=? s t).
Let y := run_layer (pair_layer cs) x.
Lemma s_range t : 0 <= s t <= 2.
Proof. unfold s. destruct (Nat.lt_ge_cases t (length cs)) as [L|L]; [|rewrite nth_overflow by exact L; cbn; lia]. rewrite Forall_forall in two. apply two, nth_In. exact L. Qed.
Lemma y_bits : y = flat_map (fun c => [1 <=? total c x; 2 <=? total c x]) cs.
Proof.
  unfold y, pair_layer, run_layer. clear. induction cs as [|c l I]; cbn [flat_map map app]; auto. rewrite I. unfold fires. cbn [fst snd]. rewrite dot_sparse. reflexivity.
Qed.
Lemma y_P t : (t < n)%nat -> b2z (nth (2 * t) y false) = P t /\ b2z (nth (2 * t + 1) y false) = G t.
Proof. intros H. rewrite y_bits. destruct (nth_pairs (fun c => 1 <=? total c x) (fun c => 2 <=? total c x) cs [] t H) as [-> ->]. auto. Qed.
Lemma y_length : length y = (2 * n)%nat.
Proof. rewrite y_bits. unfold n. clear. induction cs; cbn [flat_map app length] in *; auto. rewrite IHc. lia. Qed.
Lemma PG t : P t + G t = s t /\ 0 <= G t <= P t /\ P t <= 1.
Proof. unfold P, G. pose proof (s_range t). destruct (Z.leb_spec 1 (s t)), (Z.leb_spec 2 (s t)); cbn [b2z]; lia. Qed.

(* the carry into column t *)
Fixpoint into (t : nat) : Z := match t with O => 0 | S t' => G t' + (P t' - G t') * into t' end.
Lemma into_bit t : 0 <= into t <= 1.
Proof. induction t; cbn [into]; [lia|]. pose proof (PG t) as (A & B & C). nia. Qed.
Fixpoint chain (i len : nat) : Z := match len with O => G i | S l => chain i l + (P (i + S l) - G (i + S l)) end.
Definition arrives (i j : nat) : bool := Nat.leb i j && (Z.of_nat (j - i) + 1 <=? chain i (j - i)).
Lemma chain_bound i len : chain i len <= Z.of_nat len + 1.
Proof. induction len; cbn [chain]; [pose proof (PG i); lia|]. pose proof (PG (i + S len)). lia. Qed.
Lemma arrives_next i j : b2z (arrives i (S j)) = if Nat.eqb i (S j) then G (S j) else (P (S j) - G (S j)) * b2z (arrives i j).
Proof.
  unfold arrives. destruct (Nat.eqb_spec i (S j)) as [->|N].
  - rewrite Nat.leb_refl, Nat.sub_diag. cbn [chain andb]. pose proof (PG (S j)) as (A & B & C). assert (G (S j) = 0 \/ G (S j) = 1) as [-> | ->] by lia; reflexivity.
  - destruct (Nat.leb_spec i (S j)), (Nat.leb_spec i j); try lia; cbn [andb b2z]; [|lia].
    replace (S j - i)%nat with (S (j - i)) by lia. cbn [chain]. replace (i + S (j - i))%nat with (S j) by lia.
    pose proof (PG (S j)) as (A & B & C). pose proof (chain_bound i (j - i)). rewrite Nat2Z.inj_succ.
    destruct (Z.leb_spec (Z.succ (Z.of_nat (j - i)) + 1) (chain i (j - i) + (P (S j) - G (S j)))), (Z.leb_spec (Z.of_nat (j - i) + 1) (chain i (j - i))); cbn [b2z]; try lia.
Qed.
Lemma arrivals j : (j < n)%nat -> sum n (fun i => b2z (arrives i j)) = into (S j).
Proof.
  induction j as [|j I]; intros H.
  - rewrite (sum_ext n _ (fun i => if Nat.eqb i 0 then G 0 else 0)).
    + rewrite sum_single by exact H. cbn [into]. lia.
    + intros i L. unfold arrives. destruct i as [|i]; cbn [Nat.leb Nat.eqb andb b2z]; auto. cbn [Nat.sub chain]. pose proof (PG 0) as (A & B & C).
      assert (G 0 = 0 \/ G 0 = 1) as [-> | ->] by lia; reflexivity.
  - rewrite (sum_ext n _ (fun i => (if Nat.eqb i (S j) then G (S j) else 0) + (P (S j) - G (S j)) * b2z (arrives i j))).
    + rewrite sum_plus, sum_scale, sum_single by exact H. rewrite I by lia. cbn [into]. lia.
    + intros i L. rewrite arrives_next. destruct (Nat.eqb_spec i (S j)) as [->|N]; [|lia]. unfold arrives. replace (Nat.leb (S j) j) with false by (symmetry; apply Nat.leb_gt; lia). cbn [andb b2z]. lia.
Qed.
Lemma total_chain i : forall len, (i + len < n)%nat ->
  total (((2 * i + 1)%nat, 1) :: flat_map (fun k => [((2 * k)%nat, 1); ((2 * k + 1)%nat, -1)]) (seq (S i) len)) y = chain i len.
Proof.
  induction len as [|len I]; intros H.
  - cbn [seq flat_map total chain]. destruct (y_P i ltac:(lia)) as [_ E]. rewrite E. lia.
  - rewrite seq_S, flat_map_app, app_comm_cons, total_app, I by lia. cbn [flat_map app total chain]. replace (S i + len)%nat with (i + S len)%nat by lia.
    destruct (y_P (i + S len) ltac:(lia)) as [E F]. rewrite E, F. lia.
Qed.
Let z := run_layer (carry_layer n) y.
Lemma z_bits : z = y ++ flat_map (fun j => map (fun i => arrives i j) (seq 0 n)) (seq 0 n).
Proof.
  unfold z, carry_layer. rewrite run_layer_app. rewrite <- y_length at 1. rewrite run_wait. f_equal. unfold run_layer. rewrite flat_map_concat_map, concat_map, map_map, <- flat_map_concat_map.
  rewrite !flat_map_concat_map. f_equal. apply map_ext_in. intros j J. apply in_seq in J. rewrite map_map. apply map_ext_in. intros i L. apply in_seq in L.
  unfold carry_gate, arrives, fires. destruct (Nat.leb_spec i j) as [Q|Q]; cbn [fst snd andb].
  - rewrite dot_sparse, total_chain by lia. reflexivity.
  - rewrite dot_nil. reflexivity.
Qed.
Lemma z_P t : (t < n)%nat -> b2z (nth (2 * t) z false) = P t /\ b2z (nth (2 * t + 1) z false) = G t.
Proof. intros H. rewrite z_bits, !app_nth1 by (rewrite y_length; lia). apply y_P. exact H. Qed.
Lemma total_carried j c : (j < n)%nat -> total (carried n j c) z = c * into (S j).
Proof.
  intros H. unfold carried. rewrite total_range. f_equal. rewrite <- arrivals by exact H. apply sum_ext. intros i L. rewrite z_bits, app_nth2 by (rewrite y_length; lia).
  rewrite y_length. replace (2 * n + j * n + i - 2 * n)%nat with (j * n + i)%nat by lia. rewrite (nth_grid arrives n n 0 j i H L). reflexivity.
Qed.
Definition bit_at (j : nat) : bool := 1 <=? s j + into j - 2 * into (S j).
Lemma sum_fires j : (j < n)%nat -> fires z (sum_gate n j) = bit_at j.
Proof.
  intros H. unfold fires, sum_gate, bit_at. cbn [fst snd]. rewrite dot_sparse, !total_app, total_carried by exact H. destruct (z_P j H) as [A B].
  cbn [total]. rewrite A, B. pose proof (PG j) as (C & _). f_equal. destruct j as [|j]; [cbn [total into]; lia|]. rewrite total_carried by lia. lia.
Qed.
Lemma bit_value j : b2z (bit_at j) = s j + into j - 2 * into (S j).
Proof.
  unfold bit_at. pose proof (PG j) as (A & B & C). pose proof (into_bit j). cbn [into]. destruct (Z.leb_spec 1 (s j + into j - 2 * (G j + (P j - G j) * into j))); cbn [b2z]; nia.
Qed.
Lemma encode_columns : forall k j, (j + k = n)%nat -> encode k (columns_value (skipn j cs) x + into j) = map bit_at (seq j k).
Proof.
  induction k as [|k I]; intros j H; [reflexivity|]. rewrite encode_S. cbn [seq map].
  assert (E : skipn j cs = nth j cs [] :: skipn (S j) cs).
  { clear - H. unfold n in H. revert j H. induction cs as [|c l I]; intros j H; cbn [length] in H; [lia|]. destruct j; [reflexivity|]. cbn [skipn nth]. apply I. lia. }
  rewrite E. cbn [columns_value]. fold (s j). pose proof (bit_value j) as B. specialize (I (S j) ltac:(lia)).
  set (v := columns_value (skipn (S j) cs) x) in *.
  assert (V : s j + 2 * v + into j = 2 * (v + into (S j)) + b2z (bit_at j)) by lia. rewrite V. f_equal.
  - rewrite Z.odd_add, Z.odd_mul. cbn [Z.odd andb]. destruct (bit_at j); reflexivity.
  - rewrite <- I. f_equal. symmetry. apply Z.div_unique with (r := b2z (bit_at j)); [destruct (bit_at j); cbn; lia|lia].
Qed.
Theorem add_two_runs : run (add_two cs) x = encode n (columns_value cs x).
Proof.
  unfold add_two. fold n. cbn [run]. fold y. fold z. pose proof (encode_columns n 0 eq_refl) as E. cbn [skipn into] in E. rewrite Z.add_0_r in E. rewrite E.
  unfold run_layer. rewrite map_map. apply map_ext_in. intros j J. apply in_seq in J. apply sum_fires. lia.
Qed.
End TwoRows.
Lemma grid_length {A} (f : nat -> nat -> A) w n : forall start, length (flat_map (fun j => map (fun i => f i j) (seq 0 w)) (seq start n)) = (n * w)%nat.
Proof. induction n as [|n I]; intros start; cbn [seq flat_map]; auto. rewrite app_length, map_length, seq_length, I. lia. Qed.
Theorem add_two_depth cs : depth (add_two cs) = 3%nat. Proof. reflexivity. Qed.
Lemma pair_layer_length cs : length (pair_layer cs) = (2 * length cs)%nat.
Proof. unfold pair_layer. induction cs as [|c l I]; cbn [flat_map app length] in *; auto. rewrite I. lia. Qed.
Theorem add_two_size cs : size (add_two cs) = (length cs * length cs + 5 * length cs)%nat.
Proof.
  unfold add_two. cbn [size]. rewrite pair_layer_length. unfold carry_layer. rewrite app_length, grid_length, map_length, seq_length. unfold wait. rewrite pick_length, seq_length. lia.
Qed.

(* ---- any number of summands of any width: blocks of w columns, of at most h <= 2^w bits each, then two rows. Depth 5 ---- *)
Definition count_job (n L : nat) (w : list Z) : circuit := [bank w 0 n; map (fun i => read (fun v => Z.testbit v (Z.of_nat i)) 0 n) (seq 0 L)].
Definition counts (n L : nat) (ws : list (list Z)) : circuit := fold_right par [[]; []] (map (count_job n L) ws).
Lemma counts_length n L ws : length (counts n L ws) = 2%nat.
Proof. induction ws as [|w ws I]; [reflexivity|]. cbn [counts map fold_right]. fold (counts n L ws). rewrite par_depth; [reflexivity|]. rewrite I. reflexivity. Qed.
Lemma job_wf n L w k : (length w <= k)%nat -> wf k (count_job n L w).
Proof.
  intros H. cbn [count_job wf]. repeat split.
  - unfold reads, bank. rewrite Forall_map. apply Forall_forall. intros; exact H.
  - unfold reads. rewrite Forall_map. apply Forall_forall. intros i _. unfold read. cbn [fst]. rewrite jumps_length, bank_length. lia.
Qed.
Theorem counts_run n L ws x : Forall (fun w => (length w <= length x)%nat /\ 0 <= dot w x <= Z.of_nat n) ws ->
  run (counts n L ws) x = encode_all L (map (fun w => dot w x) ws).
Proof.
  induction ws as [|w ws I]; intros F; [reflexivity|]. inversion F as [|? ? [A B] F']; subst. cbn [counts map fold_right]. fold (counts n L ws).
  rewrite run_par; [|rewrite counts_length; reflexivity|discriminate|apply job_wf; exact A]. rewrite I by exact F'. cbn [encode_all flat_map]. f_equal.
  unfold count_job, encode. rewrite <- (map_map (fun i v => Z.testbit v (Z.of_nat i)) (fun f => read f 0 n)), bank_reads by lia. rewrite map_map. reflexivity.
Qed.
Theorem counts_size n L ws : size (counts n L ws) = (length ws * (n + L))%nat.
Proof.
  induction ws as [|w ws I]; [reflexivity|]. cbn [counts map fold_right]. fold (counts n L ws). rewrite par_size; [|rewrite counts_length; reflexivity].
  rewrite I. cbn [count_job size length]. rewrite bank_length, map_length, seq_length. lia.
Qed.

Definition scaled (c : Z) (l : list (nat * Z)) : list (nat * Z) := map (fun t => (fst t, c * snd t)) l.
Fixpoint joined (cs : columns) : list (nat * Z) := match cs with [] => [] | c :: cs' => c ++ scaled 2 (joined cs') end.
Fixpoint chunks (w k : nat) (cs : columns) : list columns := match k with O => [] | S k' => firstn w cs :: chunks w k' (skipn w cs) end.
(* column o of block b: a digit of the block, and one of the block before *)
Definition row_of_block (w b o : nat) : list (nat * Z) :=
  ((b * (w + w) + o)%nat, 1) :: match b with O => [] | S b' => [((b' * (w + w) + w + o)%nat, 1)] end.
Definition block_rows (w b k : nat) : columns := flat_map (fun b => map (row_of_block w b) (seq 0 w)) (seq b k).
(* k blocks of w columns of at most h bits *)
Definition add_many (h w k : nat) (cs : columns) : circuit :=
  counts (h * (2 ^ w - 1)) (w + w) (map (fun c => sparse (joined c)) (chunks w k cs)) ++ add_two (block_rows w 0 k).

Lemma total_scaled c l x : total (scaled c l) x = c * total l x.
Proof. induction l as [|[k a] l I]; cbn [scaled map total fst snd]; [lia|]. fold (scaled c l). rewrite I. lia. Qed.
Lemma joined_value cs x : total (joined cs) x = columns_value cs x.
Proof. induction cs as [|c cs I]; cbn [joined columns_value total]; auto. rewrite total_app, total_scaled, I. auto. Qed.
Lemma value_app a b x : columns_value (a ++ b) x = columns_value a x + 2 ^ Z.of_nat (length a) * columns_value b x.
Proof.
  induction a as [|c a I]; cbn [app columns_value length]; [change (2 ^ Z.of_nat 0) with 1; lia|]. rewrite I, Nat2Z.inj_succ, Z.pow_succ_r by lia. lia.
Qed.
Lemma value_range h cs x : Forall (fun c => 0 <= total c x <= Z.of_nat h) cs -> 0 <= columns_value cs x <= Z.of_nat h * (2 ^ Z.of_nat (length cs) - 1).
Proof.
  intros F. induction F as [|c cs B F I]; cbn [columns_value length]; [change (2 ^ Z.of_nat 0) with 1; lia|]. rewrite Nat2Z.inj_succ, Z.pow_succ_r by lia. nia.
Qed.
Fixpoint blocks_value (w : nat) (l : list Z) : Z := match l with [] => 0 | v :: l' => v + 2 ^ Z.of_nat w * blocks_value w l' end.
Lemma chunks_value w x : forall k cs, length cs = (k * w)%nat -> blocks_value w (map (fun c => columns_value c x) (chunks w k cs)) = columns_value cs x.
Proof.
  induction k as [|k I]; intros cs L; cbn [chunks map blocks_value]; [destruct cs; [reflexivity|discriminate]|].
  rewrite I by (rewrite skipn_length; lia). rewrite <- (firstn_skipn w cs) at 3. rewrite value_app, firstn_length. replace (Nat.min w (length cs)) with w by lia. auto.
Qed.
Lemma chunks_all (Q : list (nat * Z) -> Prop) w : forall k cs, Forall Q cs -> Forall (fun c => Forall Q c /\ (length c <= w)%nat) (chunks w k cs).
Proof.
  induction k as [|k I]; intros cs F; cbn [chunks]; constructor.
  - split; [|rewrite firstn_length; lia]. rewrite <- (firstn_skipn w cs) in F. apply Forall_app in F. apply F.
  - apply I. rewrite <- (firstn_skipn w cs) in F. apply Forall_app in F. apply F.
Qed.
Lemma chunks_length w : forall k cs, length (chunks w k cs) = k. Proof. induction k as [|k I]; intros cs; cbn [chunks length]; auto. Qed.

(* numbers read from bits *)
Fixpoint bits_from (z : list bool) (p k : nat) : Z := match k with O => 0 | S k' => b2z (nth p z false) + 2 * bits_from z (S p) k' end.
Lemma bits_from_app z a : forall p b, bits_from z p (a + b) = bits_from z p a + 2 ^ Z.of_nat a * bits_from z (p + a) b.
Proof.
  induction a as [|a I]; intros p b; cbn [bits_from plus]; [rewrite Nat.add_0_r; change (2 ^ Z.of_nat 0) with 1; lia|].
  rewrite I, Nat2Z.inj_succ, Z.pow_succ_r by lia. replace (S p + a)%nat with (p + S a)%nat by lia. lia.
Qed.
Lemma bits_from_bit z k : forall p, (forall o, (o < k)%nat -> 0 <= b2z (nth (p + o) z false) <= 1) -> 0 <= bits_from z p k < 2 ^ Z.of_nat k.
Proof.
  induction k as [|k I]; intros p H; cbn [bits_from]; [change (2 ^ Z.of_nat 0) with 1; lia|]. rewrite Nat2Z.inj_succ, Z.pow_succ_r by lia.
  specialize (I (S p)). pose proof (H 0%nat ltac:(lia)) as H0. rewrite Nat.add_0_r in H0. assert (0 <= bits_from z (S p) k < 2 ^ Z.of_nat k); [|lia].
  apply I. intros o O. replace (S p + o)%nat with (p + S o)%nat by lia. apply H. lia.
Qed.
Lemma bits_from_value z k : forall p v, 0 <= v < 2 ^ Z.of_nat k -> (forall o, (o < k)%nat -> nth (p + o) z false = Z.testbit v (Z.of_nat o)) -> bits_from z p k = v.
Proof.
  induction k as [|k I]; intros p v R H; cbn [bits_from]; [change (2 ^ Z.of_nat 0) with 1 in R; lia|]. rewrite Nat2Z.inj_succ, Z.pow_succ_r in R by lia.
  rewrite (I (S p) (v / 2)).
  - pose proof (H 0%nat ltac:(lia)) as H0. rewrite Nat.add_0_r in H0. rewrite H0. change (Z.of_nat 0) with 0. rewrite Z.bit0_odd, b2z_odd. pose proof (Z.div_mod v 2). lia.
  - split; [apply Z.div_pos; lia|apply Z.div_lt_upper_bound; lia].
  - intros o O. replace (S p + o)%nat with (p + S o)%nat by lia. rewrite H by lia. rewrite Nat2Z.inj_succ, <- Z.div2_bits by lia. reflexivity.
Qed.
Lemma block_value w b z : columns_value (map (row_of_block w b) (seq 0 w)) z =
  bits_from z (b * (w + w)) w + match b with O => 0 | S b' => bits_from z (b' * (w + w) + w) w end.
Proof.
  assert (E : forall n o, columns_value (map (row_of_block w b) (seq o n)) z =
    bits_from z (b * (w + w) + o) n + match b with O => 0 | S b' => bits_from z (b' * (w + w) + w + o) n end).
  { induction n as [|n I]; intros o; cbn [seq map columns_value bits_from]; [destruct b; lia|]. rewrite I. unfold row_of_block. cbn [total]. destruct b as [|b]; cbn [total].
    - replace (0 * (w + w) + S o)%nat with (S (0 * (w + w) + o)) by lia. lia.
    - replace (S b * (w + w) + S o)%nat with (S (S b * (w + w) + o)) by lia. replace (b * (w + w) + w + S o)%nat with (S (b * (w + w) + w + o)) by lia. lia. }
  rewrite E, !Nat.add_0_r. destruct b; rewrite ?Nat.add_0_r; reflexivity.
Qed.
Lemma rows_value w z vs : (forall b, (b < length vs)%nat -> bits_from z (b * (w + w)) (w + w) = nth b vs 0) ->
  forall k b, (b + k = length vs)%nat -> exists q,
    columns_value (block_rows w b k) z = match b with O => 0 | S b' => bits_from z (b' * (w + w) + w) w end + blocks_value w (skipn b vs) + 2 ^ Z.of_nat (k * w) * q.
Proof.
  intros H. induction k as [|k I]; intros b L.
  - exists (- match b with O => 0 | S b' => bits_from z (b' * (w + w) + w) w end). rewrite skipn_all2 by lia. cbn [block_rows seq flat_map columns_value blocks_value Nat.mul]. change (2 ^ Z.of_nat 0) with 1. lia.
  - destruct (I (S b) ltac:(lia)) as [q Q]. exists q. unfold block_rows in *. cbn [seq flat_map]. rewrite value_app, map_length, seq_length, block_value, Q.
    assert (E : skipn b vs = nth b vs 0 :: skipn (S b) vs).
    { clear - L. revert b L. induction vs as [|v l J]; intros b L; cbn [length] in L; [lia|]. destruct b; [reflexivity|]. cbn [skipn nth]. apply J. lia. }
    rewrite E. cbn [blocks_value]. rewrite <- H by lia. rewrite bits_from_app. replace (S k * w)%nat with (w + k * w)%nat by lia.
    rewrite Nat2Z.inj_add, Z.pow_add_r by lia. lia.
Qed.
Lemma rows_length w k : forall b, length (block_rows w b k) = (k * w)%nat.
Proof. intros b. unfold block_rows. apply (grid_length (fun o b => row_of_block w b o) w k b). Qed.
Lemma bits_two z p : 0 <= b2z (nth p z false) <= 1. Proof. destruct (nth p z false); cbn; lia. Qed.
Lemma encode_mod n a b q : a = b + 2 ^ Z.of_nat n * q -> encode n a = encode n b.
Proof.
  intros ->. unfold encode. apply map_ext_in. intros j J. apply in_seq in J. rewrite <- (Z.mod_pow2_bits_low _ (Z.of_nat n)) by lia. rewrite <- (Z.mod_pow2_bits_low b (Z.of_nat n)) by lia.
  f_equal. rewrite Z.mul_comm. apply Z_mod_plus_full.
Qed.
(* The sum of any columns, modulo 2 to their number. *)
Theorem add_many_runs h w k cs x : (h <= 2 ^ w)%nat -> length cs = (k * w)%nat ->
  Forall (fun c => 0 <= total c x <= Z.of_nat h) cs -> Forall (Forall (fun t => fst t < length x)%nat) cs ->
  run (add_many h w k cs) x = encode (k * w) (columns_value cs x).
Proof.
  intros Hw L F Rd. unfold add_many. rewrite run_app.
  set (N := (h * (2 ^ w - 1))%nat). assert (P : (1 <= 2 ^ w)%nat) by (clear; induction w; cbn [Nat.pow]; lia).
  assert (E2 : forall n, Z.of_nat (2 ^ n) = 2 ^ Z.of_nat n) by (intros n; rewrite Nat2Z.inj_pow; reflexivity).
  assert (NN : Z.of_nat N = Z.of_nat h * (2 ^ Z.of_nat w - 1)) by (unfold N; rewrite Nat2Z.inj_mul, Nat2Z.inj_sub, E2 by lia; reflexivity).
  pose proof (chunks_all _ w k cs F) as C. pose proof (chunks_all _ w k cs Rd) as D.
  assert (R : Forall (fun c => 0 <= columns_value c x <= Z.of_nat N) (chunks w k cs)).
  { eapply Forall_impl; [|exact C]. intros c [A B]. pose proof (value_range h c x A) as V. rewrite NN.
    assert (2 ^ Z.of_nat (length c) <= 2 ^ Z.of_nat w) by (apply Z.pow_le_mono_r; lia). nia. }
  rewrite counts_run.
  2: { rewrite Forall_map. rewrite Forall_forall in R, D |- *. intros c I. specialize (R c I). destruct (D c I) as [D1 _]. split; [|rewrite dot_sparse, joined_value; exact R].
       clear - D1. induction D1 as [|c0 c A B J]; [cbn; lia|]. cbn [joined].
       assert (S1 : forall l m, (forall t, In t l -> (fst t < m)%nat) -> (length (sparse l) <= m)%nat).
       { clear. intros l m. induction l as [|t l I]; intros H; [cbn; lia|]. cbn [sparse fold_right]. fold (sparse l).
         assert (V : forall a b, length (vadd a b) = Nat.max (length a) (length b)) by (induction a as [|u a K]; intros [|v b]; cbn [vadd length]; auto; rewrite K; lia).
         rewrite V, app_length, repeat_length. cbn [length]. pose proof (H t (or_introl eq_refl)). specialize (I (fun t T => H t (or_intror T))). lia. }
       apply S1. intros t T. assert (Q : forall d, Forall (Forall (fun t => (fst t < length x)%nat)) d -> forall t, In t (joined d) -> (fst t < length x)%nat).
       { clear. intros d F. induction F as [|c d A B I]; cbn [joined]; intros t T; [destruct T|]. apply in_app_or in T as [T|T]; [rewrite Forall_forall in A; auto|].
         unfold scaled in T. apply in_map_iff in T as (u & <- & U). cbn [fst]. auto. }
       apply (Q (c0 :: c)); [constructor; auto|exact T]. }
  rewrite map_map. set (vs := map (fun c => dot (sparse (joined c)) x) (chunks w k cs)). set (z := encode_all (w + w) vs).
  assert (VS : vs = map (fun c => columns_value c x) (chunks w k cs)) by (apply map_ext; intros c; rewrite dot_sparse, joined_value; reflexivity).
  assert (VL : length vs = k) by (unfold vs; rewrite map_length, chunks_length; reflexivity).
  assert (B : forall b, (b < length vs)%nat -> bits_from z (b * (w + w)) (w + w) = nth b vs 0).
  { intros b I. apply bits_from_value.
    - assert (In (nth b vs 0) vs) as J by (apply nth_In; exact I). rewrite VS in J at 2. apply in_map_iff in J as (c & <- & J). rewrite Forall_forall in R. specialize (R c J).
      rewrite Nat2Z.inj_add, Z.pow_add_r by lia. rewrite NN in R. assert (Z.of_nat h <= 2 ^ Z.of_nat w) by (rewrite <- E2; lia). assert (0 < 2 ^ Z.of_nat w) by (apply Z.pow_pos_nonneg; lia). nia.
    - intros o O. apply encode_all_nth; auto. }
  rewrite add_two_runs, rows_length.
  - destruct (rows_value w z vs B k 0 ltac:(lia)) as [q Q]. cbn [skipn] in Q. apply (encode_mod _ _ _ q). rewrite Q, VS, chunks_value by exact L. lia.
  - unfold block_rows. apply Forall_forall. intros c I. apply in_flat_map in I as (b & _ & I). apply in_map_iff in I as (o & <- & _). unfold row_of_block.
    destruct b as [|b]; cbn [total]; pose proof (bits_two z (0 * (w + w) + o)); [lia|]. pose proof (bits_two z (S b * (w + w) + o)). pose proof (bits_two z (b * (w + w) + w + o)). lia.
Qed.
Theorem add_many_depth h w k cs : depth (add_many h w k cs) = 5%nat.
Proof. unfold add_many. rewrite depth_app. unfold depth. rewrite counts_length. reflexivity. Qed.
Theorem add_many_size h w k cs : size (add_many h w k cs) = (k * (h * (2 ^ w - 1) + 2 * w) + (k * w) * (k * w) + 5 * (k * w))%nat.
Proof. unfold add_many. rewrite size_app, counts_size, map_length, chunks_length, add_two_size, rows_length. lia. Qed.

(* ---- weights ---- *)
Fixpoint magnitude (l : list (nat * Z)) : Z := match l with [] => 0 | (_, c) :: l' => Z.abs c + magnitude l' end.
Lemma magnitude_pos l : 0 <= magnitude l. Proof. induction l as [|[k c] l I]; cbn [magnitude]; lia. Qed.
Lemma magnitude_app a b : magnitude (a ++ b) = magnitude a + magnitude b.
Proof. induction a as [|[k c] a I]; cbn [app magnitude]; lia. Qed.
Lemma sparse_within l m : magnitude l <= m -> Forall (fun a => Z.abs a <= m) (sparse l).
Proof.
  intros H. eapply Forall_impl; [|instantiate (1 := fun a => Z.abs a <= magnitude l); induction l as [|[k c] l I]; [constructor|]]; [cbv beta; intros; lia|].
  cbn [sparse fold_right magnitude fst snd] in *. fold (sparse l). apply within_vadd; try (apply magnitude_pos || lia); [|apply I; pose proof (magnitude_pos l); lia].
  apply Forall_app. split; [apply Forall_forall; intros a A; apply repeat_spec in A; subst; lia|]. constructor; [lia|constructor].
Qed.
Lemma gate_sparse l t m : magnitude l <= m -> Z.abs t <= m -> gate_within m (sparse l, t).
Proof. split; cbn [fst snd]; auto. apply sparse_within. auto. Qed.
Lemma magnitude_range off n c : magnitude (map (fun i => ((off + i)%nat, c)) (seq 0 n)) = Z.of_nat n * Z.abs c.
Proof. induction n; [reflexivity|]. rewrite seq_S, map_app, magnitude_app, IHn. cbn [map magnitude]. lia. Qed.
Lemma add_two_weights cs m : Forall (fun c => magnitude c <= m) cs -> 3 * Z.of_nat (length cs) + 2 <= m -> weights_within m (add_two cs).
Proof.
  intros F M. unfold add_two. set (n := length cs) in *. repeat constructor.
  - unfold pair_layer. apply Forall_forall. intros g I. apply in_flat_map in I as (c & C & I). rewrite Forall_forall in F. specialize (F c C).
    destruct I as [<-|[<-|[]]]; apply gate_sparse; lia.
  - unfold carry_layer. apply Forall_app. split.
    + eapply Forall_impl; [|apply pick_within]. intros g [A B]. split; [eapply Forall_impl; [|exact A]; cbv beta; intros; lia|lia].
    + apply Forall_forall. intros g I. apply in_flat_map in I as (j & J & I). apply in_map_iff in I as (i & <- & I). apply in_seq in I, J. unfold carry_gate.
      destruct (Nat.leb i j); [|split; cbn [fst snd]; [constructor|lia]]. apply gate_sparse; [|lia]. cbn [magnitude].
      assert (E : forall k s, magnitude (flat_map (fun k => [((2 * k)%nat, 1); ((2 * k + 1)%nat, -1)]) (seq s k)) = 2 * Z.of_nat k).
      { clear. induction k as [|k I]; intros s; [reflexivity|]. cbn [seq flat_map app magnitude]. rewrite I. lia. }
      rewrite E. lia.
  - rewrite Forall_map. apply Forall_forall. intros j _. unfold sum_gate. apply gate_sparse; [|lia]. rewrite !magnitude_app. unfold carried.
    destruct j; cbn [magnitude]; rewrite ?magnitude_range; lia.
Qed.
Lemma magnitude_scaled c l : magnitude (scaled c l) = Z.abs c * magnitude l.
Proof. induction l as [|[k a] l I]; cbn [scaled map magnitude fst snd]; [lia|]. fold (scaled c l). rewrite I, Z.abs_mul. lia. Qed.
Lemma joined_magnitude h cs : Forall (fun c => magnitude c <= h) cs -> 0 <= h -> magnitude (joined cs) <= h * (2 ^ Z.of_nat (length cs) - 1).
Proof.
  intros F H. induction F as [|c cs A F I]; cbn [joined length]; [change (2 ^ Z.of_nat 0) with 1; cbn; lia|]. rewrite magnitude_app, magnitude_scaled, Nat2Z.inj_succ, Z.pow_succ_r by lia.
  change (Z.abs 2) with 2. lia.
Qed.
Theorem add_many_weights h w k cs : Forall (fun c => magnitude c <= Z.of_nat h) cs ->
  weights_within (Z.of_nat h * 2 ^ Z.of_nat w + 3 * Z.of_nat (k * w) + 2) (add_many h w k cs).
Proof.
  intros F. set (m := Z.of_nat h * 2 ^ Z.of_nat w + 3 * Z.of_nat (k * w) + 2). assert (P : 0 < 2 ^ Z.of_nat w) by (apply Z.pow_pos_nonneg; lia).
  assert (M : 0 <= Z.of_nat h * 2 ^ Z.of_nat w) by nia. unfold add_many. apply within_app.
  - unfold counts. assert (N : Z.of_nat (h * (2 ^ w - 1)) <= Z.of_nat h * 2 ^ Z.of_nat w).
    { rewrite Nat2Z.inj_mul. apply Z.mul_le_mono_nonneg_l; [lia|]. transitivity (Z.of_nat (2 ^ w)); [lia|]. rewrite Nat2Z.inj_pow. reflexivity. }
    pose proof (chunks_all _ w k cs F) as C. induction C as [|c l [C1 C2] C I]; cbn [map fold_right]; [repeat constructor|]. apply par_within; [lia| |exact I].
    repeat constructor.
    + unfold bank. rewrite Forall_map. apply Forall_forall. intros i J. apply in_seq in J. split; cbn [fst snd]; [|lia]. apply sparse_within.
      pose proof (joined_magnitude _ c C1 ltac:(lia)). assert (2 ^ Z.of_nat (length c) <= 2 ^ Z.of_nat w) by (apply Z.pow_le_mono_r; lia). nia.
    + rewrite Forall_map. apply Forall_forall. intros i _. pose proof (read_within (fun v => Z.testbit v (Z.of_nat i)) 0 (h * (2 ^ w - 1))) as [A B].
      split; [eapply Forall_impl; [|exact A]; cbv beta; intros; lia|lia].
  - apply add_two_weights; rewrite ?rows_length; [|lia]. unfold block_rows. apply Forall_forall. intros c I. apply in_flat_map in I as (b & _ & I). apply in_map_iff in I as (o & <- & _).
    unfold row_of_block. destruct b; cbn [magnitude]; lia.
Qed.

(* ---- products: all ANDs of two bits, then their columns ---- *)
Fixpoint both (a b : columns) : columns := match a, b with x :: a', y :: b' => (x ++ y) :: both a' b' | [], _ => b | _, [] => a end.
Definition padded (n : nat) (cs : columns) : columns := cs ++ repeat [] (n - length cs).
(* rows i, i + 1, ... of the table of ANDs *)
Fixpoint table_columns (n k i : nat) : columns :=
  match k with O => [] | S k' => both (map (fun j => [((i * n + j)%nat, 1)]) (seq 0 n)) ([] :: table_columns n k' (S i)) end.
Definition and_layer (n : nat) : layer := flat_map (fun i => map (fun j => (sparse [(i, 1); ((n + j)%nat, 1)], 2)) (seq 0 n)) (seq 0 n).
Definition multiply (n w k : nat) : circuit := and_layer n :: add_many n w k (padded (k * w) (table_columns n n 0)).

Lemma both_value a : forall b x, columns_value (both a b) x = columns_value a x + columns_value b x.
Proof. induction a as [|c a I]; intros [|d b] x; cbn [both columns_value]; try lia. rewrite total_app, I. lia. Qed.
Lemma both_range x p q a : 0 <= p -> 0 <= q -> forall b, Forall (fun c => 0 <= total c x <= p) a -> Forall (fun c => 0 <= total c x <= q) b -> Forall (fun c => 0 <= total c x <= p + q) (both a b).
Proof.
  intros P Q. induction a as [|c a I]; intros b F G; cbn [both].
  - eapply Forall_impl; [|exact G]. cbv beta. intros; lia.
  - destruct b as [|d b]; [eapply Forall_impl; [|exact F]; cbv beta; intros; lia|]. inversion F; inversion G; subst. constructor; auto. rewrite total_app. lia.
Qed.
Lemma both_all (R : nat * Z -> Prop) a : forall b, Forall (Forall R) a -> Forall (Forall R) b -> Forall (Forall R) (both a b).
Proof. induction a as [|c a I]; intros [|d b] F G; cbn [both]; auto. inversion F; inversion G; subst. constructor; auto. apply Forall_app. auto. Qed.
Lemma both_length a : forall b, length (both a b) = Nat.max (length a) (length b).
Proof. induction a as [|c a I]; intros [|d b]; cbn [both length]; auto. rewrite I. lia. Qed.
Lemma padded_value n cs x : columns_value (padded n cs) x = columns_value cs x.
Proof. unfold padded. rewrite value_app. assert (E : forall k, columns_value (repeat [] k) x = 0) by (induction k; cbn [repeat columns_value total]; lia). rewrite E. lia. Qed.
Lemma row_value n i y : columns_value (map (fun j => [((i * n + j)%nat, 1)]) (seq 0 n)) y = bits_from y (i * n) n.
Proof.
  assert (E : forall k o, columns_value (map (fun j => [((i * n + j)%nat, 1)]) (seq o k)) y = bits_from y (i * n + o) k).
  { induction k as [|k I]; intros o; cbn [seq map columns_value bits_from total]; auto. rewrite I. replace (S (i * n + o))%nat with (i * n + S o)%nat by lia. lia. }
  rewrite E, Nat.add_0_r. reflexivity.
Qed.
Lemma row_range n i y : Forall (fun c => 0 <= total c y <= 1) (map (fun j => [((i * n + j)%nat, 1)]) (seq 0 n)).
Proof. apply Forall_forall. intros c C. apply in_map_iff in C as (j & <- & _). cbn [total]. pose proof (bits_two y (i * n + j)). lia. Qed.
Lemma table_range n y k : forall i, Forall (fun c => 0 <= total c y <= Z.of_nat k) (table_columns n k i).
Proof.
  induction k as [|k I]; intros i; cbn [table_columns]; [constructor|]. rewrite Nat2Z.inj_succ. replace (Z.succ (Z.of_nat k)) with (1 + Z.of_nat k) by lia.
  apply both_range; try lia; [apply row_range|]. constructor; [cbn; lia|apply I].
Qed.
Lemma table_length n k : forall i, (length (table_columns n k i) <= n + k)%nat.
Proof. induction k as [|k I]; intros i; cbn [table_columns length]; [lia|]. rewrite both_length, map_length, seq_length. cbn [length]. specialize (I (S i)). lia. Qed.
Theorem multiply_runs n w k x : (n <= 2 ^ w)%nat -> (2 * n <= k * w)%nat -> length x = (2 * n)%nat ->
  run (multiply n w k) x = encode (k * w) (bits_from x 0 n * bits_from x n n).
Proof.
  intros H L Lx. unfold multiply. cbn [run]. set (y := run_layer (and_layer n) x).
  assert (Y : y = flat_map (fun i => map (fun j => nth i x false && nth (n + j) x false) (seq 0 n)) (seq 0 n)).
  { unfold y, and_layer, run_layer. rewrite flat_map_concat_map, concat_map, map_map, <- flat_map_concat_map. rewrite !flat_map_concat_map. f_equal. apply map_ext. intros i.
    rewrite map_map. apply map_ext. intros j. unfold fires. cbn [fst snd]. rewrite dot_sparse. cbn [total]. destruct (nth i x false), (nth (n + j) x false); reflexivity. }
  assert (YL : length y = (n * n)%nat) by (rewrite Y; apply (grid_length (fun j i => nth i x false && nth (n + j) x false))).
  assert (V : forall m i, (i + m <= n)%nat -> columns_value (table_columns n m i) y = bits_from x i m * bits_from x n n).
  { induction m as [|m I]; intros i B; [reflexivity|]. cbn [table_columns]. rewrite both_value, row_value. cbn [columns_value total bits_from]. rewrite I by lia.
    assert (R : bits_from y (i * n) n = b2z (nth i x false) * bits_from x n n); [|lia].
    assert (Q : forall c o, (o + c <= n)%nat -> bits_from y (i * n + o) c = b2z (nth i x false) * bits_from x (n + o) c).
    { induction c as [|c J]; intros o O; [cbn; lia|]. cbn [bits_from]. replace (S (i * n + o)) with (i * n + S o)%nat by lia. replace (S (n + o)) with (n + S o)%nat by lia. rewrite J by lia.
      rewrite Y, (nth_grid (fun j i => nth i x false && nth (n + j) x false) n n 0 i o) by lia. cbn [plus]. destruct (nth i x false), (nth (n + o) x false); cbn [andb b2z]; lia. }
    specialize (Q n 0%nat ltac:(lia)). rewrite !Nat.add_0_r in Q. exact Q. }
  rewrite add_many_runs; auto.
  - rewrite padded_value, V by lia. reflexivity.
  - unfold padded. pose proof (table_length n n 0). rewrite app_length, repeat_length. lia.
  - unfold padded. apply Forall_app. split; [apply table_range|]. apply Forall_forall. intros c C. apply repeat_spec in C. subst. cbn. lia.
  - unfold padded. apply Forall_app. split; [|apply Forall_forall; intros c C; apply repeat_spec in C; subst; constructor].
    rewrite YL. assert (A : forall m i, (i + m <= n)%nat -> Forall (Forall (fun t => (fst t < n * n)%nat)) (table_columns n m i)); [|apply A; lia].
    induction m as [|m I]; intros i B; cbn [table_columns]; [constructor|]. apply both_all; [|constructor; [constructor|apply I; lia]].
    apply Forall_forall. intros c C. apply in_map_iff in C as (j & <- & J). apply in_seq in J. constructor; [|constructor]. cbn [fst]. nia.
Qed.
Theorem multiply_depth n w k : depth (multiply n w k) = 6%nat.
Proof. unfold multiply. change (S (depth (add_many n w k (padded (k * w) (table_columns n n 0)))) = 6%nat). rewrite add_many_depth. reflexivity. Qed.
Lemma and_layer_length n : length (and_layer n) = (n * n)%nat.
Proof. apply (grid_length (fun j i => (sparse [(i, 1); ((n + j)%nat, 1)], 2) : gate) n n 0). Qed.
Theorem multiply_size n w k : size (multiply n w k) = (n * n + (k * (n * (2 ^ w - 1) + 2 * w) + (k * w) * (k * w) + 5 * (k * w)))%nat.
Proof. unfold multiply. cbn [size]. rewrite and_layer_length, add_many_size. reflexivity. Qed.
Lemma table_magnitude n k : forall i, Forall (fun c => magnitude c <= Z.of_nat k) (table_columns n k i).
Proof.
  assert (B : forall p q a, 0 <= p -> 0 <= q -> forall b, Forall (fun c => magnitude c <= p) a -> Forall (fun c => magnitude c <= q) b -> Forall (fun c => magnitude c <= p + q) (both a b)).
  { intros p q a P Q. induction a as [|c a I]; intros b F G; cbn [both]; [eapply Forall_impl; [|exact G]; cbv beta; intros; lia|].
    destruct b as [|d b]; [eapply Forall_impl; [|exact F]; cbv beta; intros; lia|]. inversion F; inversion G; subst. constructor; auto. rewrite magnitude_app. lia. }
  induction k as [|k I]; intros i; cbn [table_columns]; [constructor|]. replace (Z.of_nat (S k)) with (1 + Z.of_nat k) by lia. apply B; try lia.
  - apply Forall_forall. intros c C. apply in_map_iff in C as (j & <- & _). cbn. lia.
  - constructor; [cbn; lia|apply I].
Qed.
Theorem multiply_weights n w k : weights_within (Z.of_nat n * 2 ^ Z.of_nat w + 3 * Z.of_nat (k * w) + 2) (multiply n w k).
Proof.
  set (m := Z.of_nat n * 2 ^ Z.of_nat w + 3 * Z.of_nat (k * w) + 2). assert (0 <= Z.of_nat n * 2 ^ Z.of_nat w) by (apply Z.mul_nonneg_nonneg; [lia|apply Z.pow_nonneg; lia]).
  constructor.
  - unfold and_layer. apply Forall_forall. intros g I. apply in_flat_map in I as (i & _ & I). apply in_map_iff in I as (j & <- & _). apply gate_sparse; cbn [magnitude]; lia.
  - apply add_many_weights. unfold padded. apply Forall_app. split; [apply table_magnitude|]. apply Forall_forall. intros c C. apply repeat_spec in C. subst. cbn. lia.
Qed.

(* ---- comparison: bit n of a + (2^n - 1 - b) + 1 ---- *)
Definition negate_layer (n : nat) : layer := wait n ++ map (fun j => (sparse [((n + j)%nat, -1)], 0)) (seq 0 n) ++ [([], 0)].
Definition compare_columns (n : nat) : columns := map (fun j => (j, 1) :: ((n + j)%nat, 1) :: match j with O => [((2 * n)%nat, 1)] | _ => [] end) (seq 0 n).
Definition compare_ (n k : nat) : circuit := negate_layer n :: add_many 3 2 k (padded (k * 2) (compare_columns n)) ++ [pick [n]].
Theorem compare_runs n k x : (0 < n)%nat -> (n < k * 2)%nat -> length x = (2 * n)%nat ->
  run (compare_ n k) x = [bits_from x n n <=? bits_from x 0 n].
Proof.
  intros N0 L Lx. unfold compare_. cbn [run]. set (y := run_layer (negate_layer n) x).
  assert (Y : y = firstn n x ++ map (fun j => negb (nth (n + j) x false)) (seq 0 n) ++ [true]).
  { unfold y, negate_layer. rewrite !run_layer_app. f_equal; [|f_equal].
    - unfold wait. rewrite run_pick. rewrite <- (nth_seq_all (firstn n x) false), firstn_length. replace (Nat.min n (length x)) with n by lia.
      apply map_ext_in. intros j J. apply in_seq in J. rewrite <- (firstn_skipn n x) at 1. rewrite app_nth1 by (rewrite firstn_length; lia). reflexivity.
    - unfold run_layer. rewrite map_map. apply map_ext. intros j. unfold fires. cbn [fst snd]. rewrite dot_sparse. cbn [total]. destruct (nth (n + j) x false); reflexivity.
 }
  assert (Y1 : forall j, (j < n)%nat -> nth j y false = nth j x false).
  { intros j J. rewrite Y, app_nth1 by (rewrite firstn_length; lia). rewrite <- (firstn_skipn n x) at 2. rewrite app_nth1 by (rewrite firstn_length; lia). reflexivity. }
  assert (Y2 : forall j, (j < n)%nat -> nth (n + j) y false = negb (nth (n + j) x false)).
  { intros j J. rewrite Y, app_nth2 by (rewrite firstn_length; lia). rewrite firstn_length. replace (n + j - Nat.min n (length x))%nat with j by lia.
    rewrite app_nth1 by (rewrite map_length, seq_length; lia). rewrite (nth_indep _ false (negb (nth (n + 0) x false))) by (rewrite map_length, seq_length; lia).
    rewrite (map_nth (fun j => negb (nth (n + j) x false))), seq_nth by lia. reflexivity. }
  assert (Y3 : nth (2 * n) y false = true).
  { rewrite Y, app_nth2 by (rewrite firstn_length; lia). rewrite firstn_length, app_nth2 by (rewrite map_length, seq_length; lia). rewrite map_length, seq_length.
    replace (2 * n - Nat.min n (length x) - n)%nat with 0%nat by lia. reflexivity. }
  assert (YL : length y = (2 * n + 1)%nat) by (rewrite Y, !app_length, firstn_length, map_length, seq_length; cbn [length]; lia).
  assert (V : forall m o, (o + m <= n)%nat -> columns_value (map (fun j => (j, 1) :: ((n + j)%nat, 1) :: match j with O => [((2 * n)%nat, 1)] | _ => [] end) (seq o m)) y =
    bits_from x o m + (2 ^ Z.of_nat m - 1 - bits_from x (n + o) m) + (if Nat.eqb o 0 then (if Nat.eqb m 0 then 0 else 1) else 0)).
  { induction m as [|m I]; intros o B; [cbn [seq map columns_value bits_from Nat.eqb]; change (2 ^ Z.of_nat 0) with 1; destruct (Nat.eqb o 0); lia|].
    cbn [seq map columns_value bits_from total]. rewrite I, Y1, Y2, Nat2Z.inj_succ, Z.pow_succ_r by lia. replace (S (n + o)) with (n + S o)%nat by lia. cbn [Nat.eqb].
    destruct o as [|o]; cbn [total Nat.eqb]; rewrite ?Y3; destruct (nth (n + _) x false); cbn [negb b2z]; lia. }
  rewrite run_app, add_many_runs.
  - rewrite padded_value. unfold compare_columns. rewrite V by lia. cbn [Nat.eqb]. destruct (Nat.eqb_spec n 0); [lia|]. rewrite Nat.add_0_r. cbn [run]. rewrite run_pick. cbn [map].
    rewrite encode_nth by lia. f_equal. pose proof (bits_from_bit x n 0 (fun o _ => bits_two x (0 + o))) as A. pose proof (bits_from_bit x n n (fun o _ => bits_two x (n + o))) as B.
    set (a := bits_from x 0 n) in *. set (b := bits_from x n n) in *. assert (P : 0 < 2 ^ Z.of_nat n) by (apply Z.pow_pos_nonneg; lia).
    apply Bool.eq_true_iff_eq. rewrite Z.leb_le.
    rewrite Z.testbit_true by lia. split; intros H.
    + destruct (Z.le_gt_cases b a); auto. rewrite Z.div_small in H by lia. discriminate.
    + replace (a + (2 ^ Z.of_nat n - 1 - b) + 1) with ((a - b) + 1 * 2 ^ Z.of_nat n) by lia. rewrite Z.div_add, Z.div_small by lia. reflexivity.
  - cbn. lia.
  - unfold padded, compare_columns. rewrite app_length, repeat_length, map_length, seq_length. lia.
  - unfold padded, compare_columns. apply Forall_app. split; apply Forall_forall; intros c C; [apply in_map_iff in C as (j & <- & _)|apply repeat_spec in C; subst; cbn; lia].
    cbn [total]. pose proof (bits_two y j). pose proof (bits_two y (n + j)). destruct j; cbn [total]; [pose proof (bits_two y (2 * n))|]; change (Z.of_nat 3) with 3; lia.
  - unfold padded, compare_columns. apply Forall_app. split; apply Forall_forall; intros c C; [apply in_map_iff in C as (j & <- & J); apply in_seq in J|apply repeat_spec in C; subst; constructor].
    rewrite YL. repeat (constructor; [cbn [fst]; lia|]). destruct j; repeat constructor; cbn [fst]; lia.
Qed.
Theorem compare_depth n k : depth (compare_ n k) = 7%nat.
Proof. unfold compare_. change (S (depth (add_many 3 2 k (padded (k * 2) (compare_columns n)) ++ [pick [n]])) = 7%nat). rewrite depth_app, add_many_depth. reflexivity. Qed.
Theorem compare_size n k : size (compare_ n k) = (4 * k * k + 23 * k + 2 * n + 2)%nat.
Proof.
  unfold compare_. cbn [size]. rewrite size_app, add_many_size. cbn [size]. unfold negate_layer, wait. rewrite !app_length, !pick_length, map_length, !seq_length.
  cbn [length Nat.pow]. lia.
Qed.
Theorem compare_weights n k : weights_within (6 * Z.of_nat k + 14) (compare_ n k).
Proof.
  constructor.
  - unfold negate_layer. apply Forall_app. split; [|apply Forall_app; split].
    + eapply Forall_impl; [|apply pick_within]. intros g [A B]. split; [|lia]. eapply Forall_impl; [|exact A]. cbv beta. intros; lia.
    + apply Forall_forall. intros g I. apply in_map_iff in I as (j & <- & _). apply gate_sparse; cbn [magnitude]; lia.
    + apply Forall_cons; [|apply Forall_nil]. split; [apply Forall_nil|cbn [snd]; lia].
  - apply within_app; [|apply within_weaken with (m := 1); [lia|constructor; [apply pick_within|constructor]]].
    apply within_weaken with (m := Z.of_nat 3 * 2 ^ Z.of_nat 2 + 3 * Z.of_nat (k * 2) + 2); [change (2 ^ Z.of_nat 2) with 4; lia|].
    apply add_many_weights. unfold padded, compare_columns. apply Forall_app. split; apply Forall_forall; intros c C; [apply in_map_iff in C as (j & <- & _)|apply repeat_spec in C; subst; cbn; lia].
    destruct j; cbn [magnitude fst snd]; lia.
Qed.

(* ---- m numbers of n bits, one after another ---- *)
Definition number_columns (m n : nat) : columns := map (fun j => map (fun k => ((k * n + j)%nat, 1)) (seq 0 m)) (seq 0 n).
Definition block_width (m : nat) : nat := S (Nat.log2 m).
Definition add_numbers (m n : nat) : circuit :=
  let w := block_width m in add_many m w (n + m) (padded ((n + m) * w) (number_columns m n)).
Lemma numbers_total m n j x : total (map (fun k => ((k * n + j)%nat, 1)) (seq 0 m)) x = sum m (fun k => b2z (nth (k * n + j) x false)).
Proof. induction m; [reflexivity|]. rewrite seq_S, map_app, total_app, IHm. cbn [map total plus sum]. lia. Qed.
Lemma sum_bits m f : (forall k, 0 <= f k <= 1) -> 0 <= sum m f <= Z.of_nat m.
Proof. intros H. induction m; cbn [sum]; [lia|]. specialize (H m). lia. Qed.
Lemma numbers_value m n x : forall c o, columns_value (map (fun j => map (fun k => ((k * n + j)%nat, 1)) (seq 0 m)) (seq o c)) x = sum m (fun k => bits_from x (k * n + o) c).
Proof.
  induction c as [|c I]; intros o; cbn [seq map columns_value bits_from]; [symmetry; apply sum_none; auto|]. rewrite I, numbers_total, <- sum_scale, <- sum_plus.
  apply sum_ext. intros k _. replace (k * n + S o)%nat with (S (k * n + o)) by lia. reflexivity.
Qed.
Theorem add_numbers_runs m n x : (0 < m)%nat -> length x = (m * n)%nat ->
  run (add_numbers m n) x = encode ((n + m) * block_width m) (sum m (fun k => bits_from x (k * n) n)).
Proof.
  intros M L. unfold add_numbers. rewrite add_many_runs.
  - rewrite padded_value. unfold number_columns. rewrite numbers_value. f_equal. apply sum_ext. intros k _. f_equal. lia.
  - unfold block_width. pose proof (Nat.log2_spec m M). lia.
  - unfold padded, number_columns, block_width. rewrite app_length, repeat_length, map_length, seq_length. nia.
  - unfold padded. apply Forall_app. split; apply Forall_forall; intros c C; [|apply repeat_spec in C; subst; cbn; lia].
    unfold number_columns in C. apply in_map_iff in C as (j & <- & _). rewrite numbers_total. apply sum_bits. intros k. apply bits_two.
  - unfold padded. apply Forall_app. split; apply Forall_forall; intros c C; [|apply repeat_spec in C; subst; constructor].
    unfold number_columns in C. apply in_map_iff in C as (j & <- & J). apply in_seq in J. apply Forall_forall. intros t T. apply in_map_iff in T as (k & <- & K). apply in_seq in K. cbn [fst]. nia.
Qed.
Theorem add_numbers_depth m n : depth (add_numbers m n) = 5%nat. Proof. apply add_many_depth. Qed.
Theorem add_numbers_size m n : (0 < m)%nat -> (size (add_numbers m n) <= 12 * ((n + m) * (m + 1)) ^ 2)%nat.
Proof.
  intros M. unfold add_numbers. rewrite add_many_size. unfold block_width. pose proof (Nat.log2_spec m M) as [A B]. rewrite Nat.pow_succ_r' in *.
  assert (Nat.log2 m < m)%nat by (apply Nat.log2_lt_lin; lia). set (l := Nat.log2 m) in *. set (q := (2 ^ l)%nat) in *. set (s := (n + m)%nat). assert (1 <= s)%nat by (unfold s; lia).
  assert (s * (m * (2 * q - 1) + 2 * S l) <= s * (m * (2 * m) + 2 * m))%nat by (apply Nat.mul_le_mono_l; nia).
  assert (s * S l <= s * m)%nat by nia. cbn [Nat.pow]. nia.
Qed.
Theorem add_numbers_weights m n : (0 < m)%nat -> weights_within (2 * Z.of_nat m ^ 2 + 3 * Z.of_nat ((n + m) * m) + 2) (add_numbers m n).
Proof.
  intros M. unfold add_numbers. pose proof (Nat.log2_spec m M) as [A _]. assert (L : (block_width m <= m)%nat) by (unfold block_width; pose proof (Nat.log2_lt_lin m M); lia).
  apply within_weaken with (m := Z.of_nat m * 2 ^ Z.of_nat (block_width m) + 3 * Z.of_nat ((n + m) * block_width m) + 2).
  - assert (Z.of_nat ((n + m) * block_width m) <= Z.of_nat ((n + m) * m)) by (apply Nat2Z.inj_le, Nat.mul_le_mono_l; exact L).
    assert (2 ^ Z.of_nat (block_width m) <= 2 * Z.of_nat m).
    { unfold block_width. rewrite Nat2Z.inj_succ, Z.pow_succ_r by lia. apply Nat2Z.inj_le in A. rewrite Nat2Z.inj_pow in A. change (Z.of_nat 2) with 2 in A. lia. }
    assert (Z.of_nat m * 2 ^ Z.of_nat (block_width m) <= Z.of_nat m * (2 * Z.of_nat m)) by (apply Z.mul_le_mono_nonneg_l; lia). lia.
  - apply add_many_weights. unfold padded. apply Forall_app. split; apply Forall_forall; intros c C; [|apply repeat_spec in C; subst; cbn; lia].
    unfold number_columns in C. apply in_map_iff in C as (j & <- & _). assert (E : forall q, magnitude (map (fun k => ((k * n + j)%nat, 1)) (seq q m)) = Z.of_nat m).
    { clear. induction m as [|m I]; intros q; [reflexivity|]. cbn [seq map magnitude fst snd]. rewrite I. lia. }
    rewrite E. lia.
Qed.
