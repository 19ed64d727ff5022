(* What a program of d stages can compute: [can d Vs], the tables Vs as functions of the input. A new table whose every
   entry is a cell on entries of Vs costs one more stage; a table that rearranges them costs nothing. *)
Require Import ZArith List Lia Bool.
Import ListNotations.
Require Import Threshold Parallel Bits Cells.
Open Scope Z_scope.

Section Tables.
Variables (input : Type) (valid : input -> Prop) (numbers : input -> list Z) (n : nat).
Variables (k q : nat) (b : Z).  (* terms of a cell, cells of a stage, the largest number *)
Hypothesis count : forall u, valid u -> length (numbers u) = n.

Record table := Table { rows : nat; cols : nat; bound : Z; entry : input -> nat -> nat -> Z }.

Definition cells_of (P : list stage) : nat := length (concat P).
Lemma exec_length P st : length (exec P st) = (length st + cells_of P)%nat.
Proof. revert st; induction P as [|cs P I]; intros st; simpl; auto. unfold cells_of in *. simpl. rewrite I, !app_length, map_length. lia. Qed.
Lemma exec_snoc P cs st : exec (P ++ [cs]) st = exec P st ++ map (cell_value (exec P st)) cs.
Proof. revert st; induction P; intros; simpl; auto. Qed.
Lemma cells_of_snoc P cs : cells_of (P ++ [cs]) = (cells_of P + length cs)%nat.
Proof. unfold cells_of. rewrite concat_app, app_length. simpl. rewrite app_nil_r. auto. Qed.
Lemma shaped_snoc P cs m : shaped k q m P -> (length cs <= q)%nat -> Forall (cell_shaped k (m + cells_of P)) cs -> shaped k q m (P ++ [cs]).
Proof.
  revert m. unfold cells_of. induction P as [|c P I]; intros m S L F; simpl in *.
  - rewrite Nat.add_0_r in F. auto.
  - destruct S as (A & C & D). split; [|split]; auto. apply I; auto. rewrite app_length in F. rewrite <- Nat.add_assoc. auto.
Qed.
Lemma within_snoc P cs st : within b P st -> Forall (cell_within b (exec P st)) cs -> within b (P ++ [cs]) st.
Proof. revert st; induction P; intros st W F; simpl in *; auto. destruct W; auto. Qed.

Definition available (P : list stage) (V : table) := forall i j, (i < rows V)%nat -> (j < cols V)%nat ->
  exists x, (x < n + cells_of P)%nat /\ forall u, valid u -> nth x (exec P (numbers u)) 0 = entry V u i j /\ Z.abs (entry V u i j) <= bound V.
Definition can (d : nat) (Vs : list table) := exists P, length P = d /\ shaped k q n P /\
  (forall u, valid u -> within b P (numbers u)) /\ Forall (available P) Vs.

(* an entry of one of the tables *)
Definition wired (Vs : list table) (f : input -> Z) := exists V i j, In V Vs /\ (i < rows V)%nat /\ (j < cols V)%nat /\ forall u, valid u -> f u = entry V u i j.
Definition summand := ((input -> Z) * (input -> Z) * (Z -> Z -> Z))%type.
Definition worth (u : input) (t : summand) : Z := let '(x, y, h) := t in h (x u) (y u).
Definition made (Vs : list table) (m : Z) (f : input -> Z) := exists (ts : list summand) g, (length ts <= k)%nat /\
  Forall (fun t : summand => let '(x, y, _) := t in wired Vs x /\ wired Vs y) ts /\
  forall u, valid u -> f u = g (add_up (map (worth u) ts)) /\ Forall (fun t => Z.abs (worth u t) <= b) ts /\ Z.abs (f u) <= m.

Lemma can_bound d Vs V u i j : can d Vs -> In V Vs -> valid u -> (i < rows V)%nat -> (j < cols V)%nat -> Z.abs (entry V u i j) <= bound V.
Proof. intros (P & _ & _ & _ & A) In_V Vu Hi Hj. rewrite Forall_forall in A. destruct (A _ In_V i j Hi Hj) as (x & _ & E). apply E; auto. Qed.

Lemma available_snoc P cs V : available P V -> available (P ++ [cs]) V.
Proof.
  intros A i j Hi Hj. destruct (A i j Hi Hj) as (x & L & E). exists x. rewrite cells_of_snoc. split; [lia|]. intros u U.
  rewrite exec_snoc, app_nth1 by (rewrite exec_length, count; auto). auto.
Qed.
Lemma choose {A C} (R : A -> C -> Prop) l : (forall e, In e l -> exists c, R e c) -> exists cs, Forall2 R l cs.
Proof.
  induction l as [|e l I]; intros H; [exists []; auto|]. destruct (H e) as [c Hc]; [left; auto|].
  destruct I as [cs Hcs]; [intros; apply H; right; auto|]. exists (c :: cs). auto.
Qed.
Lemma Forall2_length {A C} (R : A -> C -> Prop) l m : Forall2 R l m -> length l = length m.
Proof. induction 1; simpl; auto. Qed.
Lemma wired_in P Vs f : Forall (available P) Vs -> wired Vs f ->
  exists x, (x < n + cells_of P)%nat /\ forall u, valid u -> nth x (exec P (numbers u)) 0 = f u.
Proof.
  intros A (V & i & j & V_in & Hi & Hj & E). rewrite Forall_forall in A. destruct (A _ V_in i j Hi Hj) as (x & L & X).
  exists x. split; auto. intros u U. rewrite E by auto. apply X; auto.
Qed.
Lemma made_cell P Vs m f : Forall (available P) Vs -> m <= b -> made Vs m f -> exists c, cell_shaped k (n + cells_of P) c /\
  forall u, valid u -> cell_value (exec P (numbers u)) c = f u /\ Z.abs (f u) <= m /\ cell_within b (exec P (numbers u)) c.
Proof.
  intros A M (ts & g & L & W & E).
  destruct (choose (fun (t : summand) (t' : term) => (let '(i, j, _) := t' in (i < n + cells_of P)%nat /\ (j < n + cells_of P)%nat) /\
    forall u, valid u -> term_value (exec P (numbers u)) t' = worth u t) ts) as [ts' T].
  { intros [[x y] h] Ht. rewrite Forall_forall in W. destruct (W _ Ht) as [X Y].
    destruct (wired_in _ _ _ A X) as (i & Li & Ei), (wired_in _ _ _ A Y) as (j & Lj & Ej).
    exists (i, j, h). split; auto. intros u U. cbn. rewrite Ei, Ej; auto. }
  assert (S : Forall (fun t : term => let '(i, j, _) := t in (i < n + cells_of P)%nat /\ (j < n + cells_of P)%nat) ts').
  { clear -T. induction T; constructor; auto. apply H. }
  assert (Eq : forall u, valid u -> map (term_value (exec P (numbers u))) ts' = map (worth u) ts).
  { intros u U. clear -T U. induction T; cbn; auto. rewrite IHT. f_equal. apply H; auto. }
  exists (Cell ts' g). split.
  - split; auto. cbn. rewrite <- (Forall2_length _ _ _ T). auto.
  - intros u U. destruct (E u U) as (F & B & Fb). assert (V : cell_value (exec P (numbers u)) (Cell ts' g) = f u).
    { unfold cell_value. cbn [out terms]. rewrite Eq by auto. auto. }
    split; [|split]; auto. split; [|rewrite V; lia]. cbn [terms].
    apply (Forall_map (term_value (exec P (numbers u))) (fun x => Z.abs x <= b)). rewrite Eq by auto.
    apply Forall_map. exact B.
Qed.
Lemma Forall2_nth {A C} (R : A -> C -> Prop) l m d e x : Forall2 R l m -> (x < length l)%nat -> R (nth x l d) (nth x m e).
Proof. intros F; revert x; induction F; intros [|z] L; simpl in *; auto; try lia. apply IHF. lia. Qed.

Theorem can_stage d Vs r c m V : can d Vs -> (r * c <= q)%nat -> m <= b ->
  (forall i j, (i < r)%nat -> (j < c)%nat -> made Vs m (fun u => V u i j)) -> can (S d) (Table r c m V :: Vs).
Proof.
  intros (P & Len & Sh & Wi & A) Rc M Made.
  destruct (choose (fun (e : nat * nat) c => cell_shaped k (n + cells_of P) c /\ forall u, valid u ->
    cell_value (exec P (numbers u)) c = V u (fst e) (snd e) /\ Z.abs (V u (fst e) (snd e)) <= m /\ cell_within b (exec P (numbers u)) c)
    (list_prod (seq 0 r) (seq 0 c))) as [cs F].
  { intros [i j] I. apply in_prod_iff in I as [Hi Hj]. apply in_seq in Hi, Hj. apply (made_cell P Vs m); auto. apply Made; cbn; lia. }
  pose proof (Forall2_length _ _ _ F) as L. rewrite prod_length, !seq_length in L.
  exists (P ++ [cs]). split; [rewrite app_length; simpl; lia|]. split; [|split].
  - apply shaped_snoc; auto; try lia. clear -F. induction F; constructor; auto. apply H.
  - intros u U. apply within_snoc; auto. clear -F U. induction F; constructor; auto. apply H; auto.
  - constructor; [|eapply Forall_impl; [|exact A]; intros; apply available_snoc; auto].
    intros i j Hi Hj. cbn in Hi, Hj. assert (I : In (i, j) (list_prod (seq 0 r) (seq 0 c))) by (apply in_prod; apply in_seq; lia).
    destruct (In_nth _ _ (0, 0)%nat I) as (x & Lx & Ex). rewrite prod_length, !seq_length in Lx.
    exists (n + cells_of P + x)%nat. rewrite cells_of_snoc. split; [lia|]. intros u U. cbn [entry bound].
    rewrite exec_snoc, app_nth2; rewrite exec_length, count by auto; [|lia].
    replace (n + cells_of P + x - (n + cells_of P))%nat with x by lia.
    pose proof (Forall2_nth _ _ _ (0, 0)%nat (Cell [] (fun x => x)) x F) as N. rewrite prod_length, !seq_length, Ex in N.
    destruct (N Lx) as [_ N']. destruct (N' u U) as (E & B & _). cbn in E, B. split; auto. rewrite <- E.
    rewrite (nth_indep _ 0 (cell_value (exec P (numbers u)) (Cell [] (fun x => x)))) by (rewrite map_length; lia).
    apply map_nth.
Qed.

Theorem can_rearrange d Vs r c m V : can d Vs ->
  (forall i j, (i < r)%nat -> (j < c)%nat -> exists T i' j', In T Vs /\ (i' < rows T)%nat /\ (j' < cols T)%nat /\ bound T <= m /\
    forall u, valid u -> V u i j = entry T u i' j') -> can d (Table r c m V :: Vs).
Proof.
  intros (P & Len & Sh & Wi & A) H. exists P. repeat split; auto. constructor; auto. intros i j Hi Hj. cbn in Hi, Hj.
  destruct (H i j Hi Hj) as (T & i' & j' & T_in & Hi' & Hj' & B & E). rewrite Forall_forall in A.
  destruct (A _ T_in i' j' Hi' Hj') as (x & L & X). exists x. split; auto. intros u U. cbn. rewrite E by auto. destruct (X u U). split; auto. lia.
Qed.
Theorem can_forget d Vs Vs' : can d Vs -> incl Vs' Vs -> can d Vs'.
Proof. intros (P & Len & Sh & Wi & A) I. exists P. repeat split; auto. rewrite Forall_forall in *. auto. Qed.
Theorem can_wait d Vs : can d Vs -> can (S d) Vs.
Proof.
  intros (P & Len & Sh & Wi & A). exists (P ++ [[]]). split; [rewrite app_length; simpl; lia|]. split; [|split].
  - apply shaped_snoc; auto. simpl; lia.
  - intros. apply within_snoc; auto.
  - eapply Forall_impl; [|exact A]. intros. apply available_snoc; auto.
Qed.
Theorem can_start r c m V : (forall i j, (i < r)%nat -> (j < c)%nat -> exists x, (x < n)%nat /\ forall u, valid u -> nth x (numbers u) 0 = V u i j /\ Z.abs (V u i j) <= m) ->
  can 0 [Table r c m V].
Proof.
  intros H. exists []. repeat split; simpl; auto. constructor; auto. intros i j Hi Hj. cbn in *.
  unfold cells_of. simpl. rewrite Nat.add_0_r. auto.
Qed.
Theorem can_both Vs Vs' : can 0 Vs -> can 0 Vs' -> can 0 (Vs ++ Vs').
Proof.
  intros (P & Len & Sh & Wi & A) (P' & Len' & _ & _ & A'). destruct P, P'; try discriminate.
  exists []. repeat split; auto. apply Forall_app. auto.
Qed.

(* ---- the circuit of a table: numbers of p bits in, numbers of p bits out ---- *)
Variables (w p : nat).
Hypothesis p_positive : (0 < p)%nat.
Hypothesis p_w : (p <= w)%nat.
Hypothesis b_positive : 0 < b.
Hypothesis b_fits : b < 2 ^ (Z.of_nat w - 1).
Hypothesis inputs_fit : forall u, valid u -> Forall (fun x => fits p x /\ Z.abs x <= b) (numbers u).

Definition widen : layer := pick (flat_map (fun x => map (fun j => x * p + Nat.min j (p - 1))%nat (seq 0 w)) (seq 0 n)).
Lemma run_widen xs : length xs = n -> Forall (fits p) xs -> run_layer widen (encode_all p xs) = encode_all w xs.
Proof.
  intros L F. unfold widen. rewrite run_pick. transitivity (encode_all w (map (fun x => nth x xs 0) (seq 0 n))).
  2: rewrite <- L, nth_seq_all; reflexivity.
  unfold encode_all at 2. rewrite !flat_map_concat_map, concat_map, !map_map. f_equal.
  apply map_ext_in. intros x X. apply in_seq in X. rewrite map_map. unfold encode. apply map_ext_in. intros j J. apply in_seq in J.
  rewrite encode_all_nth by lia. destruct (Nat.le_gt_cases p j).
  - rewrite Nat.min_r by lia. symmetry. apply sign_bits; auto. rewrite Forall_forall in F. apply F, nth_In. lia.
  - rewrite Nat.min_l by lia. auto.
Qed.
Definition choose_bits (xs : list nat) : layer := pick (flat_map (fun x => map (fun j => x * w + j)%nat (seq 0 p)) xs).
Lemma run_choose xs st : Forall (fun x => (x < length st)%nat) xs -> run_layer (choose_bits xs) (encode_all w st) = encode_all p (map (fun x => nth x st 0) xs).
Proof.
  intros F. unfold choose_bits. rewrite run_pick. unfold encode_all at 2. rewrite !flat_map_concat_map, concat_map, !map_map. f_equal.
  apply map_ext_in. intros x X. rewrite map_map. unfold encode. apply map_ext_in. intros j J. apply in_seq in J.
  rewrite Forall_forall in F. apply encode_all_nth. lia. auto.
Qed.
Lemma widen_length : length widen = (n * w)%nat.
Proof.
  unfold widen. rewrite pick_length. rewrite <- (seq_length n 0) at 2. induction (seq 0 n); simpl; auto.
  rewrite app_length, map_length, seq_length, IHl. auto.
Qed.
Lemma choose_length xs : length (choose_bits xs) = (length xs * p)%nat.
Proof. unfold choose_bits. rewrite pick_length. induction xs; simpl; auto. rewrite app_length, map_length, seq_length, IHxs. auto. Qed.

Theorem realise d Vs r c m V : can d Vs -> In (Table r c m V) Vs -> (r * c <= q)%nat -> exists C : circuit,
  depth C = (3 * d + 2)%nat /\
  Z.of_nat (size C) <= Z.of_nat n * Z.of_nat w + program_size w b (Z.of_nat d) (Z.of_nat n) (Z.of_nat k) (Z.of_nat q) + Z.of_nat q * Z.of_nat w /\
  weights_within (cell_weight w b (Z.of_nat k)) C /\
  forall u, valid u -> run C (encode_all p (numbers u)) = encode_all p (flatten r c (V u)).
Proof.
  intros (P & Len & Sh & Wi & A) In_V Rc. rewrite Forall_forall in A. specialize (A _ In_V).
  destruct (choose (fun (e : nat * nat) x => (x < n + cells_of P)%nat /\ forall u, valid u -> nth x (exec P (numbers u)) 0 = V u (fst e) (snd e))
    (list_prod (seq 0 r) (seq 0 c))) as [xs F].
  { intros [i j] I. apply in_prod_iff in I as [Hi Hj]. apply in_seq in Hi, Hj. unfold available in A. cbn [rows cols] in A.
    destruct (A i j ltac:(lia) ltac:(lia)) as (x & Lx & E). exists x. split; auto. intros. apply E; auto. }
  pose proof (Forall2_length _ _ _ F) as L. rewrite prod_length, !seq_length in L.
  assert (w_positive : (0 < w)%nat) by lia.
  assert (Wt : 1 <= cell_weight w b (Z.of_nat k)). { unfold cell_weight. assert (0 < 2 ^ Z.of_nat w) by (apply Z.pow_pos_nonneg; lia). nia. }
  exists ([widen] ++ compile w b n P ++ [choose_bits xs]). split; [|split; [|split]].
  - rewrite !depth_app, compile_depth, Len by auto. cbn [depth length]. lia.
  - rewrite !size_app. cbn [size]. rewrite widen_length, choose_length. pose proof (compile_size w b w_positive b_positive b_fits _ _ _ _ Sh) as S.
    rewrite Len in S. rewrite !Nat2Z.inj_add, !Nat2Z.inj_mul. simpl (Z.of_nat 0). rewrite <- L, Nat2Z.inj_mul. nia.
  - apply within_app; [|apply within_app].
    + apply within_weaken with (m := 1); auto. constructor; [apply pick_within|constructor].
    + apply (compile_weights w b w_positive b_positive b_fits k q); auto.
    + apply within_weaken with (m := 1); auto. constructor; [apply pick_within|constructor].
  - intros u U. rewrite !run_app. cbn [run]. pose proof (count u U) as Lu. pose proof (inputs_fit u U) as Fu.
    rewrite run_widen; auto; [|eapply Forall_impl; [|exact Fu]; intros a [X _]; exact X].
    rewrite <- Lu. rewrite <- Lu in Sh. destruct (compile_correct w b w_positive b_positive b_fits k q P (numbers u)) as [R _]; auto.
    { eapply Forall_impl; [|exact Fu]; intros a [_ X]; exact X. }
    rewrite R, run_choose.
    + f_equal. transitivity (map (fun e => V u (fst e) (snd e)) (list_prod (seq 0 r) (seq 0 c))).
      * clear -F U. induction F; cbn [map]; auto. rewrite IHF. f_equal. apply H; auto.
      * unfold flatten. clear. induction (seq 0 r) as [|i l I]; cbn [list_prod flat_map]; auto. rewrite map_app, I. f_equal. rewrite map_map. auto.
    + rewrite exec_length, Lu. clear -F. induction F; constructor; auto. apply H.
Qed.
End Tables.
Arguments Table {input}. Arguments rows {input}. Arguments cols {input}. Arguments bound {input}. Arguments entry {input}.
