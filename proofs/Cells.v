(* A cell computes a number g(sum_k h_k(x_i, x_j)) from numbers x: any functions h_k and g, three layers. A program is a
   list of stages; a stage puts the values of its cells behind the numbers that are already there. *)
Require Import ZArith List Lia Bool.
Import ListNotations.
Require Import Threshold Parallel Bits.
Open Scope Z_scope.

Definition term := (nat * nat * (Z -> Z -> Z))%type.  (* h(x_i, x_j) *)
Record cell := Cell { terms : list term; out : Z -> Z }.
Definition term_value (st : list Z) (t : term) : Z := let '(i, j, h) := t in h (nth i st 0) (nth j st 0).
Definition add_up (l : list Z) : Z := fold_right Z.add 0 l.
Definition cell_value (st : list Z) (c : cell) : Z := out c (add_up (map (term_value st) (terms c))).
Definition stage := list cell.
Fixpoint exec (P : list stage) (st : list Z) : list Z :=
  match P with [] => st | cs :: P' => exec P' (st ++ map (cell_value st) cs) end.

(* at most k terms in a cell and q cells in a stage, on n numbers *)
Definition cell_shaped (k n : nat) (c : cell) :=
  (length (terms c) <= k)%nat /\ Forall (fun t : term => let '(i, j, _) := t in (i < n)%nat /\ (j < n)%nat) (terms c).
Fixpoint shaped (k q n : nat) (P : list stage) : Prop :=
  match P with [] => True | cs :: P' => (length cs <= q)%nat /\ Forall (cell_shaped k n) cs /\ shaped k q (n + length cs) P' end.
(* every number stays within -b .. b *)
Definition cell_within (b : Z) (st : list Z) (c : cell) :=
  Forall (fun t => Z.abs (term_value st t) <= b) (terms c) /\ Z.abs (cell_value st c) <= b.
Fixpoint within (b : Z) (P : list stage) (st : list Z) : Prop :=
  match P with [] => True | cs :: P' => Forall (cell_within b st) cs /\ within b P' (st ++ map (cell_value st) cs) end.

Lemma add_up_bound l m : Forall (fun x => Z.abs x <= m) l -> Z.abs (add_up l) <= Z.of_nat (length l) * m.
Proof. unfold add_up. induction 1; cbn [fold_right length]; [lia|]. rewrite Nat2Z.inj_succ. lia. Qed.

Section Compile.
Variables (w : nat) (b : Z).  (* bits of a number, and the largest *)
Hypothesis w_positive : (0 < w)%nat.
Hypothesis b_positive : 0 < b.
Hypothesis b_fits : b < 2 ^ (Z.of_nat w - 1).

Let W := 2 ^ Z.of_nat w.
Let H := 2 ^ (Z.of_nat w - 1).
Local Lemma W_H : W = 2 * H.
Proof. unfold W, H. rewrite <- Z.pow_succ_r by lia. f_equal. lia. Qed.
Local Lemma H_pos : 0 < H. Proof. unfold H. lia. Qed.

Definition limit (x : Z) := Z.max (- b) (Z.min b x).
Lemma limit_within x : Z.abs (limit x) <= b. Proof. unfold limit. lia. Qed.
Lemma limit_same x : Z.abs x <= b -> limit x = x. Proof. unfold limit. lia. Qed.

(* both numbers in one sum: 2^w x_i + x_j *)
Definition both (i j : nat) : list Z := vadd (wire w i (2 ^ Z.of_nat w)) (wire w j 1).
Definition first : Z := - 2 ^ (Z.of_nat w - 1) * 2 ^ Z.of_nat w - 2 ^ (Z.of_nat w - 1).
Definition pairs : nat := Z.to_nat (2 ^ Z.of_nat w * 2 ^ Z.of_nat w - 1).
Definition of_pair (h : Z -> Z -> Z) (v : Z) : Z :=
  let x := (v + 2 ^ (Z.of_nat w - 1)) / 2 ^ Z.of_nat w in limit (h x (v - 2 ^ Z.of_nat w * x)).
Lemma of_pair_value h x y : fits w x -> fits w y -> of_pair h (W * x + y) = limit (h x y).
Proof.
  intros X Y. unfold of_pair. fold W H. unfold fits in *. fold H in X, Y. pose proof W_H. pose proof H_pos.
  assert ((W * x + y + H) / W = x) as ->. { symmetry. apply Z.div_unique with (r := y + H). lia. lia. }
  f_equal. f_equal. lia.
Qed.
Lemma pair_range x y : fits w x -> fits w y -> first <= W * x + y <= first + Z.of_nat pairs.
Proof.
  intros X Y. unfold first, pairs. fold W H. unfold fits in *. fold H in X, Y. pose proof W_H. pose proof H_pos.
  rewrite Z2Nat.id by nia. nia.
Qed.

Definition banks (ts : list term) : layer := flat_map (fun t : term => let '(i, j, _) := t in bank (both i j) first pairs) ts.
Definition all_jumps (ts : list term) : list Z := flat_map (fun t : term => let '(_, _, h) := t in jumps (of_pair h) first pairs) ts.
Definition offset (ts : list term) : Z := add_up (map (fun t : term => let '(_, _, h) := t in of_pair h first) ts).
Definition span (ts : list term) : Z := Z.of_nat (length ts) * b.
Definition cell_circuit (c : cell) : circuit :=
  let ts := terms c in
  let n := Z.to_nat (2 * span ts) in
  [ banks ts;
    bank (all_jumps ts) (- span ts - offset ts) n;
    map (fun k => read (fun v => Z.testbit (out c v) (Z.of_nat k)) (- span ts) n) (seq 0 w) ].

Lemma steps_shift S lo n a : steps (S - a) (lo - a) n = steps S lo n.
Proof. apply map_ext. intro i. destruct (Z.leb_spec (lo - a + Z.of_nat i) (S - a)), (Z.leb_spec (lo + Z.of_nat i) S); lia || auto. Qed.

Lemma banks_sum ts st : Forall (fits w) st ->
  Forall (fun t : term => let '(i, j, _) := t in (i < length st)%nat /\ (j < length st)%nat) ts ->
  Forall (fun t => Z.abs (term_value st t) <= b) ts ->
  dot (all_jumps ts) (run_layer (banks ts) (encode_all w st)) = add_up (map (term_value st) ts) - offset ts.
Proof.
  intros F. induction ts as [|[[i j] h] ts I]; intros S T; [reflexivity|].
  apply Forall_cons_iff in S as [[Li Lj] S']. apply Forall_cons_iff in T as [Tt T'].
  cbn [banks all_jumps flat_map]. rewrite run_layer_app, run_bank.
  rewrite dot_both by (rewrite jumps_length, steps_length; auto).
  fold (banks ts) (all_jumps ts). rewrite I by auto.
  unfold both. rewrite dot_vadd, !dot_wire by auto. fold W.
  assert (fits w (nth i st 0) /\ fits w (nth j st 0)) as [Fi Fj] by (rewrite Forall_forall in F; split; apply F, nth_In; auto).
  rewrite Z.mul_1_l. rewrite jumps_read by (apply pair_range; auto). rewrite of_pair_value by auto.
  cbn [term_value] in Tt. rewrite limit_same by assumption. unfold offset. cbn [map add_up fold_right term_value].
  fold (add_up (map (term_value st) ts)). fold (add_up (map (fun t : term => let '(_, _, h0) := t in of_pair h0 first) ts)). lia.
Qed.

Lemma sum_span ts st : Forall (fun t => Z.abs (term_value st t) <= b) ts ->
  Z.abs (add_up (map (term_value st) ts)) <= span ts.
Proof.
  unfold span, add_up. induction ts; intros T; cbn [map fold_right length]; [lia|]. inversion T; subst.
  specialize (IHts H3). rewrite Nat2Z.inj_succ. lia.
Qed.

Theorem cell_correct c st : Forall (fits w) st -> cell_shaped (length (terms c)) (length st) c -> cell_within b st c ->
  run (cell_circuit c) (encode_all w st) = encode w (cell_value st c).
Proof.
  intros F [_ S] [T _]. unfold cell_circuit. cbn [run]. rewrite run_bank, banks_sum by auto.
  rewrite steps_shift. pose proof (sum_span _ _ T) as R. unfold run_layer, encode. rewrite map_map. apply map_ext. intro k.
  rewrite read_fires by (rewrite Z2Nat.id by lia; lia). reflexivity.
Qed.

Lemma banks_length ts : length (banks ts) = (length ts * pairs)%nat.
Proof. induction ts as [|[[i j] h] ts I]; auto. cbn [banks flat_map length]. rewrite app_length, bank_length. fold (banks ts). rewrite I. lia. Qed.
Lemma all_jumps_length ts : length (all_jumps ts) = (length ts * pairs)%nat.
Proof. induction ts as [|[[i j] h] ts I]; auto. cbn [all_jumps flat_map length]. rewrite app_length, jumps_length. fold (all_jumps ts). rewrite I. lia. Qed.
Lemma both_length i j n : (i < n)%nat -> (j < n)%nat -> (length (both i j) <= n * w)%nat.
Proof.
  intros A B. unfold both. assert (L : forall x y, length (vadd x y) = Nat.max (length x) (length y)).
  { induction x; destruct y; simpl; auto. } rewrite L, !wire_length. nia.
Qed.
Lemma reads_bank n v lo k : (length v <= n)%nat -> reads n (bank v lo k).
Proof. intros. unfold reads, bank. rewrite Forall_map. apply Forall_forall. auto. Qed.
Lemma cell_wf k n c : cell_shaped k n c -> wf (n * w) (cell_circuit c).
Proof.
  intros [_ S]. unfold cell_circuit. cbn [wf]. rewrite banks_length, bank_length. repeat split.
  - unfold banks. induction (terms c) as [|[[i j] h] ts I]; [constructor|]. apply Forall_cons_iff in S as [[A B] S'].
    cbn [flat_map]. apply reads_app; auto. apply reads_bank, both_length; auto.
  - apply reads_bank. rewrite all_jumps_length. auto.
  - unfold reads. rewrite Forall_map. apply Forall_forall. intros. cbn [read fst]. rewrite jumps_length. auto.
Qed.
(* gates of a cell of at most k terms *)
Definition cell_size (k : Z) : Z := k * (W * W) + 2 * k * b + Z.of_nat w.
Lemma cell_size_bound k n c : cell_shaped k n c -> Z.of_nat (size (cell_circuit c)) <= cell_size (Z.of_nat k).
Proof.
  intros [L _]. unfold cell_circuit. cbn [size]. rewrite banks_length, bank_length, map_length, seq_length.
  unfold cell_size, span, pairs. fold W. pose proof W_H. pose proof H_pos.
  rewrite !Nat2Z.inj_add, Nat2Z.inj_mul, !Z2Nat.id by nia. nia.
Qed.
(* no weight of such a cell is larger *)
Definition cell_weight (k : Z) : Z := 2 * (W * W) + 4 * k * b + 2 * b + 2.
Lemma within_bank m v lo n : Forall (fun a => Z.abs a <= m) v -> Z.abs lo + Z.of_nat n <= m -> Forall (gate_within m) (bank v lo n).
Proof.
  intros V L. unfold bank. rewrite Forall_map. apply Forall_forall. intros i I. apply in_seq in I. split; cbn [fst snd]; auto. lia.
Qed.
Lemma cell_weights k n c : cell_shaped k n c -> weights_within (cell_weight (Z.of_nat k)) (cell_circuit c).
Proof.
  intros [L _]. pose proof W_H. pose proof H_pos. assert (1 <= H) by lia. assert (2 <= W) by lia.
  assert (O : Z.abs (offset (terms c)) <= Z.of_nat (length (terms c)) * b).
  { unfold offset. eapply Z.le_trans; [apply add_up_bound with (m := b)|rewrite map_length; lia].
    rewrite Forall_map. apply Forall_forall. intros [[i j] h] _. apply limit_within. }
  unfold cell_circuit. constructor; [|constructor; [|constructor; [|constructor]]].
  - unfold banks. apply Forall_flat_map. apply Forall_forall. intros [[i j] h] _. apply within_bank.
    + unfold both. eapply Forall_impl; [|apply within_vadd; [apply wire_within|apply wire_within| |]]; fold W; try lia; cbv beta; try nia.
      intros a A. unfold cell_weight. nia.
    + unfold first, pairs, cell_weight. fold W H. rewrite Z2Nat.id by nia. nia.
  - apply within_bank.
    + eapply Forall_impl with (P := fun a => Z.abs a <= 2 * b); [unfold cell_weight; intros; nia|].
      unfold all_jumps. apply Forall_flat_map. apply Forall_forall. intros [[i j] h] _. apply jumps_within. intro v. apply limit_within.
    + unfold span, cell_weight. rewrite Z2Nat.id by nia. nia.
  - rewrite Forall_map. apply Forall_forall. intros i _. destruct (read_within (fun v => Z.testbit (out c v) (Z.of_nat i)) (- span (terms c)) (Z.to_nat (2 * span (terms c)))) as [A B].
    unfold cell_weight. split; [eapply Forall_impl; [|exact A]; cbv beta; intros; nia|nia].
Qed.

(* ---- stages and programs ---- *)
Definition nothing : circuit := [[]; []; []].
Definition cells_circuit (cs : stage) : circuit := fold_right par nothing (map cell_circuit cs).
Definition waiting (n : nat) : circuit := [wait n; wait n; wait n].
Definition stage_circuit (n : nat) (cs : stage) : circuit := par (waiting (n * w)) (cells_circuit cs).
Fixpoint compile (n : nat) (P : list stage) : circuit :=
  match P with [] => [] | cs :: P' => stage_circuit n cs ++ compile (n + length cs) P' end.

Lemma cells_depth cs : length (cells_circuit cs) = 3%nat.
Proof. unfold cells_circuit. induction cs; cbn [map fold_right]; auto. rewrite par_depth; auto. Qed.
Lemma waiting_wf n : wf n (waiting n).
Proof.
  assert (reads n (wait n)). { apply pick_reads. apply Forall_forall. intros k K. apply in_seq in K. lia. }
  assert (length (wait n) = n) as L by (unfold wait; rewrite pick_length, seq_length; auto).
  cbn [waiting wf]. rewrite L. auto.
Qed.
Lemma cells_wf k n cs : Forall (cell_shaped k n) cs -> wf (n * w) (cells_circuit cs).
Proof.
  unfold cells_circuit. induction 1; cbn [map fold_right].
  - cbn [nothing wf]. repeat split; constructor.
  - apply par_wf; auto. eapply cell_wf; eauto.
Qed.
Lemma stage_correct k st cs : Forall (fits w) st -> Forall (cell_shaped k (length st)) cs -> Forall (cell_within b st) cs ->
  run (stage_circuit (length st) cs) (encode_all w st) = encode_all w (st ++ map (cell_value st) cs).
Proof.
  intros F S T. unfold stage_circuit. rewrite <- (encode_all_length w st). rewrite run_par.
  - rewrite encode_all_app. f_equal.
    + unfold waiting. cbn [run]. rewrite !run_wait. auto.
    + unfold cells_circuit. induction cs as [|c cs I]; cbn [map fold_right]; [reflexivity|].
      inversion S; inversion T; subst. rewrite run_par.
      * cbn [encode_all flat_map]. rewrite (cell_correct c st) by (auto; destruct H2; split; auto). f_equal. apply I; auto.
      * fold (cells_circuit cs). rewrite (cells_depth cs). reflexivity.
      * unfold cell_circuit. discriminate.
      * rewrite encode_all_length. eapply cell_wf; eauto.
  - rewrite cells_depth. reflexivity.
  - discriminate.
  - rewrite encode_all_length. apply waiting_wf.
Qed.

Theorem compile_correct k q P st : Forall (fun x => Z.abs x <= b) st -> shaped k q (length st) P -> within b P st ->
  run (compile (length st) P) (encode_all w st) = encode_all w (exec P st) /\ Forall (fun x => Z.abs x <= b) (exec P st).
Proof.
  revert st; induction P as [|cs P I]; intros st F S T; [split; auto|]. destruct S as (_ & S & S'), T as (T & T').
  cbn [compile exec]. rewrite run_app, (stage_correct k).
  - replace (length st + length cs)%nat with (length (st ++ map (cell_value st) cs)) in * by (rewrite app_length, map_length; auto).
    apply I; auto. apply Forall_app. split; auto. rewrite Forall_map. eapply Forall_impl; [|exact T]. intros c [_ C]. exact C.
  - eapply Forall_impl; [|exact F]. cbv beta. unfold fits. intros. lia.
  - exact S.
  - exact T.
Qed.
Theorem compile_depth n P : depth (compile n P) = (3 * length P)%nat.
Proof.
  revert n; induction P; intros n; auto. cbn [compile]. rewrite depth_app, IHP. unfold depth, stage_circuit.
  rewrite par_depth by (rewrite cells_depth; auto). simpl. lia.
Qed.
(* gates of d stages of at most q cells of at most k terms, after n numbers *)
Definition program_size (d n k q : Z) : Z := d * (3 * ((n + d * q) * Z.of_nat w) + q * cell_size k).
Lemma cells_size k n cs : Forall (cell_shaped k n) cs -> Z.of_nat (size (cells_circuit cs)) <= Z.of_nat (length cs) * cell_size (Z.of_nat k).
Proof.
  unfold cells_circuit. induction 1; cbn [map fold_right length]; [simpl; lia|].
  rewrite par_size by (fold (cells_circuit l); rewrite (cells_depth l); auto). pose proof (cell_size_bound _ _ _ H0). rewrite Nat2Z.inj_add, Nat2Z.inj_succ. lia.
Qed.
Lemma cell_size_pos k : 0 <= k -> 0 <= cell_size k.
Proof. intros. unfold cell_size. pose proof W_H. pose proof H_pos. nia. Qed.
Lemma compile_size_from k q P n : shaped k q n P ->
  Z.of_nat (size (compile n P)) <= Z.of_nat (length P) * (3 * ((Z.of_nat n + Z.of_nat (length P) * Z.of_nat q) * Z.of_nat w) + Z.of_nat q * cell_size (Z.of_nat k)).
Proof.
  revert n; induction P as [|cs P I]; intros n S; [simpl; lia|]. destruct S as (L & S & S'). cbn [compile length].
  rewrite size_app, Nat2Z.inj_add. specialize (I _ S'). unfold stage_circuit. rewrite par_size by (rewrite cells_depth; auto).
  pose proof (cells_size _ _ _ S) as C. pose proof (cell_size_pos (Z.of_nat k)).
  assert (size (waiting (n * w)) = 3 * (n * w))%nat as -> by (cbn [waiting size]; unfold wait; rewrite pick_length, seq_length; lia).
  rewrite Nat2Z.inj_add, !Nat2Z.inj_succ, !Nat2Z.inj_mul. rewrite Nat2Z.inj_add in I.
  set (X := cell_size (Z.of_nat k)) in *. set (p := Z.of_nat (length P)) in *. set (c := Z.of_nat (length cs)) in *.
  set (Q := Z.of_nat q) in *. set (N := Z.of_nat n) in *. assert (0 <= c <= Q) by lia. assert (0 <= p) by lia. assert (0 <= N) by lia. assert (0 <= X) by lia.
  set (V := Z.of_nat w) in *. assert (0 <= V) by lia. change (Z.of_nat 3) with 3.
  assert (c * X <= Q * X) by nia. assert (p * ((N + c + p * Q) * V) <= p * ((N + Z.succ p * Q) * V)).
  { apply Z.mul_le_mono_nonneg_l; auto. apply Z.mul_le_mono_nonneg_r; auto. lia. }
  assert (N * V <= (N + Z.succ p * Q) * V) by (apply Z.mul_le_mono_nonneg_r; auto; nia). lia.
Qed.
Theorem compile_size k q P n : shaped k q n P ->
  Z.of_nat (size (compile n P)) <= program_size (Z.of_nat (length P)) (Z.of_nat n) (Z.of_nat k) (Z.of_nat q).
Proof. apply compile_size_from. Qed.
Theorem compile_weights k q P n : shaped k q n P -> weights_within (cell_weight (Z.of_nat k)) (compile n P).
Proof.
  pose proof W_H. pose proof H_pos. assert (1 <= cell_weight (Z.of_nat k)) by (unfold cell_weight; nia).
  revert n; induction P as [|cs P I]; intros n S; [constructor|]. destruct S as (_ & S & S'). cbn [compile]. apply within_app; auto.
  apply par_within; [lia| |].
  - assert (Forall (gate_within (cell_weight (Z.of_nat k))) (wait (n * w))).
    { eapply Forall_impl; [|apply pick_within]. intros g [A B]. split; [eapply Forall_impl; [|exact A]; cbv beta; intros|]; lia. }
    repeat constructor; auto.
  - unfold cells_circuit. clear S'. induction S; cbn [map fold_right]; [repeat constructor|]. apply par_within; auto. lia. eapply cell_weights; eauto.
Qed.
End Compile.
