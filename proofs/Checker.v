(* A checker of proofs that a circuit computes a model, and the theorem that it is right. It shares no line with the
   checker of the package. *)
Require Import ZArith List Lia Bool FMapPositive.
Import ListNotations.
Require Import Claims Polynomials Cases Sums Carries Words Limits Formulas Rules Rules_sound.
Open Scope Z_scope.

Record call := Call { step_of : positive (* the first value it computes *); cell_of : positive; renaming : list node }.
Record proof := Proof { cells : list cell; calls : list call }.

(* ---- calls have the gates of their cells, on the nodes of the numbers that they read ---- *)
Definition operation_dec (x y : operation) : {x = y} + {x <> y}.
Proof. repeat decide equality. Defined.
Definition row_dec (x y : row) : {x = y} + {x <> y}.
Proof. repeat decide equality. Defined.

Definition thetas_dec (x y : list Z) : {x = y} + {x <> y}.
Proof. repeat decide equality. Defined.
Definition values_dec (x y : list positive) : {x = y} + {x <> y}.
Proof. repeat decide equality. Defined.

Definition rename (f : node -> node) (r : row) : row := map (fun t : node * Z => (f (fst t), snd t)) r.
Definition bits_dec (x y : list bit) : {x = y} + {x <> y}.
Proof. repeat decide equality. Defined.
Definition move_bit (f : node -> node) (t : bit) : bit := Bit (place t) (constant t) (rename f (terms t)).
Fixpoint index_nodes (ns : list node) (i : node) (m : Map.t node) : Map.t node :=
  match ns with [] => m | n :: ns' => index_nodes ns' (Pos.succ i) (Map.add i n m) end.
Definition renamed (c : cell) (inputs_ : Map.t node) (place : node) (n : node) : node :=
  if Pos.ltb n (inputs c) then match Map.find n inputs_ with Some k => k | None => 1%positive end else Pos.sub (Pos.add place n) (inputs c).
Fixpoint same_banks (f : node -> node) (cs bs : list bank) (place : node) : option (list bank * node) :=
  match cs, bs with
  | [], _ => Some (bs, place)
  | c :: cs', b :: bs' =>
      if (if thetas_dec (thetas c) (thetas b) then true else false) && (if row_dec (rename f (sum_of c)) (sum_of b) then true else false)
      then same_banks f cs' bs' (length_pos (thetas b) place) else None
  | _, _ => None
  end.
Definition fits_number (f : node -> node) (x y : number) : bool :=  (* x of the circuit is what the cell calls y *)
  (if bits_dec (map (move_bit f) (bits y)) (bits x) then true else false) &&
  (lo y =? lo x) && (hi x =? hi y) && (negb (hot y) || hot x).
Fixpoint fits_row (f : node -> node) (known : Map.t number) (xs : list positive) (ys : list number) : bool :=
  match xs, ys with
  | [], [] => true
  | i :: xs', y :: ys' => match Map.find i known with Some x => fits_number f x y | None => false end && fits_row f known xs' ys'
  | _, _ => false
  end.
Fixpoint fits_rows (f : node -> node) (known : Map.t number) (xs : list (list positive)) (ys : list (list number)) : bool :=
  match xs, ys with
  | [], [] => true
  | x :: xs', y :: ys' => fits_row f known x y && fits_rows f known xs' ys'
  | _, _ => false
  end.
Definition moved (f : node -> node) (x : number) : number := Number (map (move_bit f) (bits x)) (lo x) (hi x) (hot x).
Fixpoint learn (f : node -> node) (rs : list number) (i : positive) (known : Map.t number) : Map.t number :=
  match rs with [] => known | x :: rs' => learn f rs' (Pos.succ i) (Map.add i (moved f x) known) end.
(* in D^2 sum x^2 - D t^2 + 1 the model's t is the sum of the xs *)
Definition premise_here (steps_ : Map.t step) (o : operation) (args : list (list positive)) : bool :=
  match o, args with
  | CentredSquareSum, [xs; [t]] =>
      match Map.find t steps_ with Some (Application (Total 0) [ys]) => if values_dec xs ys then true else false | _ => false end
  | _, _ => true
  end.
Definition state := (Map.t number * list bank * node)%type.
Definition check_call (steps_ : Map.t step) (cells_ : Map.t cell) (k : call) (s : state) : option state :=
  let '(known, bs, place) := s in
  match Map.find (step_of k) steps_, Map.find (cell_of k) cells_ with
  | Some (Application o args), Some c =>
      let f := renamed c (index_nodes (renaming k) 1%positive (Map.empty node)) place in
      if (if operation_dec o (op c) then true else false) && fits_rows f known args (arguments_of c) && premise_here steps_ o args
      then match same_banks f (banks_of c) bs place with
           | Some (bs', place') => Some (learn f (results_of c) (step_of k) known, bs', place')
           | None => None
           end
      else None
  | _, _ => None
  end.
Fixpoint check_calls (steps_ : Map.t step) (cells_ : Map.t cell) (ks : list call) (s : state) : option state :=
  match ks with
  | [] => Some s
  | k :: ks' => match check_call steps_ cells_ k s with Some s' => check_calls steps_ cells_ ks' s' | None => None end
  end.
Fixpoint index_cells (cs : list cell) (i : positive) (m : Map.t cell) : Map.t cell :=
  match cs with [] => m | c :: cs' => index_cells cs' (Pos.succ i) (Map.add i c m) end.
Fixpoint index_steps (ss : list step) (i : positive) (m : Map.t step) : Map.t step :=
  match ss with [] => m | s :: ss' => index_steps ss' (after i s) (Map.add i s m) end.
Fixpoint constants (ss : list step) (i : positive) (m : Map.t number) : Map.t number :=
  match ss with
  | [] => m
  | s :: ss' => constants ss' (after i s) (match s with Constant c => Map.add i (Number [Bit c 1 []] c c (is_power c)) m | _ => m end)
  end.
Fixpoint steps_ordered (ss : list step) (i : positive) : bool :=
  match ss with
  | [] => true
  | s :: ss' => (match s with Constant _ => true | Application _ a => forallb (forallb (fun j => Pos.ltb j i)) a end) && steps_ordered ss' (after i s)
  end.
Definition low_end (r : list (Z * node)) : Z := add_up (map (fun t => Z.min 0 (fst t)) r).
Definition high_end (r : list (Z * node)) : Z := add_up (map (fun t => Z.max 0 (fst t)) r).
Definition of_node (t : Z * node) : bit := Bit (fst t) 0 [(snd t, 1)].
Fixpoint given_numbers (ps : list port) (i : positive) (m : Map.t number) : Map.t number :=
  match ps with
  | [] => m
  | q :: ps' => let r := of_port q in given_numbers ps' (Pos.succ i) (Map.add i (Number (map of_node r) (low_end r) (high_end r) false) m)
  end.
(* two sums of nodes are the same *)
Fixpoint weight_of (n : node) (r : row) : Z := match r with [] => 0 | (k, w) :: r' => (if Pos.eqb k n then w else 0) + weight_of n r' end.
Definition without (n : node) (r : row) : row := filter (fun t : node * Z => negb (Pos.eqb (fst t) n)) r.
Fixpoint cancels (fuel : nat) (r : row) : bool :=
  match fuel, r with
  | _, [] => true
  | S fuel', (n, _) :: _ => (weight_of n r =? 0) && cancels fuel' (without n r)
  | O, _ => false
  end.
Definition same_sum (r s : row) : bool :=
  let d := r ++ map (fun t : node * Z => (fst t, - snd t)) s in cancels (length d) d.
(* An output's node is a bit of the number, or a gate behind all calls that repeats one: [bit >= 1]; or it is constant. *)
Definition explained (last : Map.t gate) (x : number) (t : Z * node) : bit :=
  match Map.find (snd t) last with
  | Some g =>
      if match reads g with [] => true | _ => false end then Bit (fst t) (if theta g <=? 0 then 1 else 0) []
      else if existsb (fun y => (constant y =? 1 - theta g) && (if row_dec (terms y) (reads g) then true else false)) (bits x)
      then Bit (fst t) (1 - theta g) (reads g) else of_node t
  | None => of_node t
  end.
(* constant and sum of weight * node of some bits *)
Definition whole (ts : list bit) : Z := add_up (map (fun t => place t * constant t) ts).
Definition nodes_sum (ts : list bit) : row := flat_map (fun t => map (fun r : node * Z => (fst r, place t * snd r)) (terms t)) ts.
(* the port has room for the number's bits, and for a sign where it has one and the number has none *)
Definition has_room (x : number) (q : port) : bool :=
  match bits x with
  | [Bit _ _ []] => true
  | ts => (signed q || (0 <=? lo x)) && Nat.leb (length ts + if signed q && (0 <=? lo x) then 1 else 0) (length (nodes q))
  end.
Definition check_output (last : Map.t gate) (x : number) (q : port) : bool :=
  let ts := map (explained last x) (of_port q) in
  has_room x q && (whole ts =? whole (bits x)) && same_sum (nodes_sum ts) (nodes_sum (bits x)).
Fixpoint check_outputs (known : Map.t number) (last : Map.t gate) (qs : list port) (os : list positive) : bool :=
  match qs, os with
  | [], [] => true
  | q :: qs', o :: os' => match Map.find o known with Some x => check_output last x q | None => false end && check_outputs known last qs' os'
  | _, _ => false
  end.
Fixpoint ordered_banks (bs : list bank) (next : node) : bool :=
  match bs with [] => true | b :: bs' => below_ next (sum_of b) && ordered_banks bs' (length_pos (thetas b) next) end.
Definition check (c : claim) (t : proof) : bool :=
  let i := from_list_end (in_ports c) 1%positive in
  ordered_banks (banks c) (first_gate c) && forallb (fun q => forallb (fun t => Pos.ltb (snd t) (first_gate c)) (of_port q)) (in_ports c) &&
  steps_ordered (steps c) i && forallb check_cell (cells t) &&
  match check_calls (index_steps (steps c) i (Map.empty step)) (index_cells (cells t) 1%positive (Map.empty cell)) (calls t)
          (constants (steps c) i (given_numbers (in_ports c) 1%positive (Map.empty number)), banks c, first_gate c) with
  | Some (known, bs, place) => check_outputs known (index_gates (flat_map gates_in bs) place (Map.empty gate)) (out_ports c) (outputs c)
  | None => false
  end.

(* ---- why it is right ---- *)
Lemma run_below gs : forall next e n, (n < next)%positive -> run gs next e n = e n.
Proof. induction gs as [|g gs I]; intros next e n L; simpl; auto. rewrite I by lia. destruct (Pos.eqb_spec n next); auto. lia. Qed.
Lemma run_equations gs : forall next e, ordered gs next = true -> equations gs next (run gs next e).
Proof.
  induction gs as [|g gs I]; intros next e O; simpl in *; auto. apply andb_prop in O as [O1 O2]. split; auto.
  rewrite run_below by lia. rewrite Pos.eqb_refl. unfold fires. f_equal. apply weighted_same. intros t T.
  pose proof (below_In _ _ _ O1 T). rewrite run_below by lia. destruct (Pos.eqb_spec (fst t) next); auto. lia.
Qed.
Lemma weighted_rename e f r : weighted e (rename f r) = weighted (fun n => e (f n)) r.
Proof. induction r as [|[n w] r I]; simpl; auto. rewrite I. auto. Qed.

Lemma equations_app e a : forall b next, equations (a ++ b) next e <-> equations a next e /\ equations b (length_pos a next) e.
Proof. induction a as [|g a I]; intros b next; cbn [app equations length_pos]; [tauto|]. rewrite I. tauto. Qed.
Lemma length_gates b : forall next, length_pos (gates_in b) next = length_pos (thetas b) next.
Proof. unfold gates_in. induction (thetas b) as [|t ts I]; intros next; cbn [map length_pos]; auto. Qed.
Lemma below_later r : forall n m, (n <= m)%positive -> below_ n r = true -> below_ m r = true.
Proof.
  intros n m L. unfold below_. rewrite !forallb_forall. intros H t T. specialize (H t T). apply Pos.ltb_lt in H. apply Pos.ltb_lt. lia.
Qed.
Lemma ordered_bank r ts rest : forall next, below_ next r = true -> ordered rest (length_pos ts next) = true -> ordered (map (Gate r) ts ++ rest) next = true.
Proof.
  induction ts as [|t ts I]; intros next B O; cbn [map app ordered length_pos reads] in *; auto. rewrite B. apply I; auto. eapply below_later; [|exact B]. lia.
Qed.
Lemma ordered_all bs : forall next, ordered_banks bs next = true -> ordered (flat_map gates_in bs) next = true.
Proof.
  induction bs as [|b bs I]; intros next O; cbn [ordered_banks flat_map] in *; auto. apply andb_prop in O as [O1 O2]. apply ordered_bank; auto.
Qed.

Section Sound.
Variables (e : node -> bool) (v : positive -> Z).
Definition good (known : Map.t number) := forall i x, Map.find i known = Some x -> value e x = v i /\ holds x (v i) = true /\ proper e x = true.
Definition step_holds (i : positive) (s : step) := v i = nth 0 (results v s) 0 /\ (arity s = 2%nat -> v (Pos.succ i) = nth 1 (results v s) 0).

Lemma good_add known i x : good known -> value e x = v i -> holds x (v i) = true -> proper e x = true -> good (Map.add i x known).
Proof.
  intros G V H Pr j y F. destruct (Pos.eq_dec j i) as [->|N]; [rewrite Map.gss in F; injection F as <-; auto|rewrite Map.gso in F by auto; apply G; auto].
Qed.
Lemma holds_wider x y f z : fits_number f x y = true -> holds x z = true -> holds y z = true.
Proof.
  unfold fits_number, holds. intros F H. repeat (apply andb_prop in F as [F ?F]). repeat (apply andb_prop in H as [H ?H]).
  apply Z.leb_le in H, H1. apply Z.eqb_eq in F1, F2. rewrite !andb_true_iff. repeat split; try (apply Z.leb_le; lia).
  destruct (hot y); auto. simpl in *. rewrite F0 in H0. exact H0.
Qed.
Lemma move_bit_value f t : bit_value e (move_bit f t) = bit_value (fun n => e (f n)) t.
Proof. unfold bit_value, move_bit. cbn. rewrite weighted_rename. auto. Qed.
Lemma moved_value f ts : map (fun t => place t * bit_value e t) (map (move_bit f) ts) = map (fun t => place t * bit_value (fun n => e (f n)) t) ts.
Proof. rewrite map_map. apply map_ext. intros t. rewrite move_bit_value. auto. Qed.
Lemma moved_proper f ts : forallb (fun t => is_bit (bit_value e t)) (map (move_bit f) ts) = forallb (fun t => is_bit (bit_value (fun n => e (f n)) t)) ts.
Proof. induction ts as [|t ts I]; cbn [map forallb]; auto. rewrite move_bit_value, I. auto. Qed.
Lemma fits_value x y f : fits_number f x y = true -> value (fun n => e (f n)) y = value e x /\ proper (fun n => e (f n)) y = proper e x.
Proof.
  unfold fits_number, value, proper. intros F. repeat (apply andb_prop in F as [F ?F]).
  destruct (bits_dec (map (move_bit f) (bits y)) (bits x)) as [E|]; [|discriminate]. rewrite <- E, moved_value, moved_proper. auto.
Qed.
Lemma fits_row_sound f known xs ys : good known -> fits_row f known xs ys = true ->
  map (value (fun n => e (f n))) ys = map v xs /\ forallb (fun t => holds (fst t) (snd t)) (combine ys (map v xs)) = true /\
  forallb (proper (fun n => e (f n))) ys = true.
Proof.
  intros G. revert ys. induction xs as [|i xs I]; intros [|y ys] F; simpl in *; try discriminate; auto.
  apply andb_prop in F as [F1 F2]. destruct (Map.find i known) as [x|] eqn:E; [|discriminate]. destruct (G i x E) as (V & H & Pr).
  destruct (I _ F2) as (A & B & C). destruct (fits_value _ _ _ F1) as [V' Pr'].
  rewrite V', V, A, B, C, Pr', Pr. rewrite (holds_wider _ _ _ _ F1 H). auto.
Qed.
Lemma fits_rows_sound f known xs ys : good known -> fits_rows f known xs ys = true ->
  map (map (value (fun n => e (f n)))) ys = map (map v) xs /\ holds_rows ys (map (map v) xs) = true /\
  forallb (forallb (proper (fun n => e (f n)))) ys = true.
Proof.
  intros G. revert ys. induction xs as [|x xs I]; intros [|y ys] F; simpl in *; try discriminate; auto.
  apply andb_prop in F as [F1 F2]. destruct (fits_row_sound _ _ _ _ G F1) as (A & B & Q). destruct (I _ F2) as (C & D & R).
  rewrite A, B, C, D, Q, R. auto.
Qed.
Lemma same_bank_sound f r ts : forall start place, equations (map (Gate (rename f r)) ts) place e -> f start = place ->
  (forall n, (start <= n)%positive -> f (Pos.succ n) = Pos.succ (f n)) ->
  equations (map (Gate r) ts) start (fun n => e (f n)) /\ f (length_pos ts start) = length_pos ts place.
Proof.
  induction ts as [|t ts I]; intros start place E F N; cbn [map equations length_pos] in *; auto. destruct E as [E1 E2].
  destruct (I (Pos.succ start) (Pos.succ place) E2) as [A L].
  { rewrite N by lia. rewrite F. auto. } { intros n G. apply N. lia. }
  split; auto. split; auto. rewrite F, E1. unfold fires. cbn [reads theta]. rewrite weighted_rename. auto.
Qed.
Lemma length_pos_ge {A} (l : list A) : forall i, (i <= length_pos l i)%positive.
Proof. induction l as [|x l I]; intros i; cbn [length_pos]; [lia|]. specialize (I (Pos.succ i)). lia. Qed.
Lemma same_banks_sound f cs : forall bs place bs' place' start, same_banks f cs bs place = Some (bs', place') -> equations (flat_map gates_in bs) place e ->
  f start = place -> (forall n, (start <= n)%positive -> f (Pos.succ n) = Pos.succ (f n)) ->
  equations (flat_map gates_in cs) start (fun n => e (f n)) /\ equations (flat_map gates_in bs') place' e.
Proof.
  induction cs as [|c cs I]; intros bs place bs' place' start S E F N; cbn [same_banks] in S.
  - injection S as <- <-. split; auto. exact Logic.I.
  - destruct bs as [|b bs]; [discriminate|]. destruct (thetas_dec (thetas c) (thetas b)) as [T|]; [|discriminate].
    destruct (row_dec (rename f (sum_of c)) (sum_of b)) as [Rr|]; [|discriminate]. cbn [andb] in S. cbn [flat_map] in E |- *.
    apply equations_app in E as [E1 E2]. rewrite length_gates in E2. unfold gates_in in E1. rewrite <- Rr, <- T in E1.
    destruct (same_bank_sound f (sum_of c) (thetas c) start place E1 F N) as [A L].
    destruct (I _ _ _ _ (length_pos (thetas c) start) S E2) as [B C]; [rewrite L, T; auto| |].
    { intros n G. apply N. pose proof (length_pos_ge (thetas c) start). lia. }
    split; auto. apply equations_app. split; auto. rewrite length_gates. exact B.
Qed.
Lemma renamed_start c m place : renamed c m place (inputs c) = place.
Proof. unfold renamed. rewrite Pos.ltb_irrefl. lia. Qed.
Lemma renamed_next c m place n : (inputs c <= n)%positive -> renamed c m place (Pos.succ n) = Pos.succ (renamed c m place n).
Proof.
  intros L. unfold renamed. destruct (Pos.ltb_spec n (inputs c)); [lia|]. destruct (Pos.ltb_spec (Pos.succ n) (inputs c)); lia.
Qed.
Lemma premise_sound steps_ o args : (forall i s, Map.find i steps_ = Some s -> step_holds i s) -> premise_here steps_ o args = true -> premise o (map (map v) args).
Proof.
  intros St H. destruct o; try exact Logic.I. destruct args as [|xs [|[|t [|]] [|]]]; try exact Logic.I. cbn [premise_here] in H.
  destruct (Map.find t steps_) as [[|[| | |[| |]| | | | | | | | |] [|ys [|]]]|] eqn:F; try discriminate. destruct (values_dec xs ys) as [->|]; [|discriminate].
  destruct (St _ _ F) as [S _]. cbn in S. cbn [map premise]. rewrite S. lia.
Qed.

Lemma check_call_sound steps_ cells_ k known gs place known' gs' place' :
  (forall i s, Map.find i steps_ = Some s -> step_holds i s) -> (forall i c, Map.find i cells_ = Some c -> check_cell c = true) ->
  check_call steps_ cells_ k (known, gs, place) = Some (known', gs', place') -> good known -> equations (flat_map gates_in gs) place e ->
  good known' /\ equations (flat_map gates_in gs') place' e.
Proof.
  intros St Ce H G E. unfold check_call in H. destruct (Map.find (step_of k) steps_) as [[z|o args]|] eqn:Fs; try discriminate.
  destruct (Map.find (cell_of k) cells_) as [c|] eqn:Fc; [|discriminate].
  destruct (operation_dec o (op c)) as [->|]; [|discriminate]. simpl in H.
  set (f := renamed c (index_nodes (renaming k) 1%positive (Map.empty node)) place) in *.
  destruct (fits_rows f known args (arguments_of c)) eqn:Fr; [|discriminate]. destruct (premise_here steps_ (op c) args) eqn:Pm; [|discriminate].
  destruct (same_banks f (banks_of c) gs place) as [[gs1 place1]|] eqn:Sg; [|discriminate]. injection H as <- <- <-.
  destruct (same_banks_sound f (banks_of c) gs place gs1 place1 (inputs c) Sg E) as [A B].
  { apply renamed_start. } { intros; apply renamed_next; auto. }
  split; auto. destruct (fits_rows_sound f known args (arguments_of c) G Fr) as (V & Ho & Pro).
  pose proof (Ce _ _ Fc) as Cc. pose proof (cell_sound c (fun n => e (f n)) Cc A) as R. rewrite V in R. specialize (R Ho Pro (premise_sound _ _ _ St Pm)).
  destruct (St _ _ Fs) as [S1 S2]. cbn [results] in S1, S2.
  unfold check_cell in Cc. apply andb_prop in Cc as [H0 _]. apply andb_prop in H0 as [H0 _]. apply Nat.eqb_eq in H0. change (arity (Application (op c) [])) with (arity (Application (op c) args)) in H0.
  set (r := formula (op c) (map (map v) args)) in *.
  assert (Two : (arity (Application (op c) args) = 1 \/ arity (Application (op c) args) = 2)%nat) by (simpl; destruct (op c); auto).
  assert (M : forall x y, value (fun n => e (f n)) x = y -> value e (moved f x) = y) by (intros x y <-; unfold value, moved; cbn [bits]; rewrite moved_value; auto).
  assert (M' : forall x, proper (fun n => e (f n)) x = true -> proper e (moved f x) = true) by (intros x X; unfold proper, moved; cbn [bits]; rewrite moved_proper; exact X).
  remember (arity (Application (op c) args)) as ar eqn:Ar. clear Ar.
  destruct (results_of c) as [|x [|y [|]]]; simpl in H0; try lia; destruct r as [|a [|b [|]]]; simpl in R; try discriminate; rewrite ?andb_false_r in R; try discriminate.
  - rewrite andb_true_r in R. apply andb_prop in R as [R R3]. apply andb_prop in R as [R1 R2]. apply Z.eqb_eq in R1. simpl in S1. cbn [learn].
    apply good_add; auto; rewrite S1; auto.
  - rewrite andb_true_r in R. apply andb_prop in R as [R R']. apply andb_prop in R as [R R5]. apply andb_prop in R as [R1 R2].
    apply andb_prop in R' as [R' R6]. apply andb_prop in R' as [R3 R4].
    apply Z.eqb_eq in R1, R3. simpl in S1, S2. specialize (S2 (eq_sym H0)). cbn [learn].
    apply good_add; [apply good_add; auto| | |]; rewrite ?S1, ?S2; auto.
Qed.
Lemma check_calls_sound steps_ cells_ ks : (forall i s, Map.find i steps_ = Some s -> step_holds i s) -> (forall i c, Map.find i cells_ = Some c -> check_cell c = true) ->
  forall known gs place known' gs' place', check_calls steps_ cells_ ks (known, gs, place) = Some (known', gs', place') -> good known -> equations (flat_map gates_in gs) place e ->
    good known' /\ equations (flat_map gates_in gs') place' e.
Proof.
  intros St Ce. induction ks as [|k ks I]; intros known gs place known' gs' place' H G E.
  - simpl in H. injection H as <- <- <-. auto.
  - cbn [check_calls] in H. destruct (check_call steps_ cells_ k (known, gs, place)) as [[[known1 gs1] place1]|] eqn:C; [|discriminate].
    destruct (check_call_sound _ _ _ _ _ _ _ _ _ St Ce C G E). eauto.
Qed.
End Sound.

(* the model's values satisfy its steps *)
Lemma arity_cases s : arity s = 1%nat \/ arity s = 2%nat.
Proof. destruct s as [c|o a]; simpl; auto. destruct o; auto. Qed.
Lemma meaning_below ss : forall next v n, (n < next)%positive -> meaning ss next v n = v n.
Proof.
  induction ss as [|s ss I]; intros next v n L; cbn [meaning]; auto. unfold after, extend. destruct (arity_cases s) as [A|A]; rewrite A; rewrite I by lia; unfold set.
  - destruct (Pos.eqb_spec n next); [lia|auto].
  - destruct (Pos.eqb_spec n (Pos.succ next)); [lia|]. destruct (Pos.eqb_spec n next); [lia|auto].
Qed.
Lemma results_same v v' s n : (match s with Constant _ => true | Application _ a => forallb (forallb (fun j => Pos.ltb j n)) a end) = true ->
  (forall k, (k < n)%positive -> v k = v' k) -> results v s = results v' s.
Proof.
  destruct s as [c|o a]; simpl; auto. intros B A. f_equal. apply map_ext_in. intros x X. apply map_ext_in. intros y Y.
  rewrite forallb_forall in B. specialize (B x X). rewrite forallb_forall in B. specialize (B y Y). apply A. apply Pos.ltb_lt. exact B.
Qed.
Lemma meaning_here s ss next v : steps_ordered (s :: ss) next = true -> step_holds (meaning (s :: ss) next v) next s.
Proof.
  intros O. cbn [steps_ordered] in O. apply andb_prop in O as [O _].
  assert (R : results (meaning (s :: ss) next v) s = results v s).
  { eapply results_same; [exact O|]. intros k K. apply meaning_below. exact K. }
  unfold step_holds. rewrite R. cbn [meaning]. unfold after, extend. destruct (arity_cases s) as [A|A]; rewrite A.
  - split; [|intros; lia]. rewrite meaning_below by lia. unfold set. rewrite Pos.eqb_refl. auto.
  - split; [|intros _]; rewrite meaning_below by lia; unfold set.
    + destruct (Pos.eqb_spec next (Pos.succ next)); [lia|]. rewrite Pos.eqb_refl. auto.
    + rewrite Pos.eqb_refl. auto.
Qed.
Lemma index_steps_sound ss : forall next v m, steps_ordered ss next = true ->
  (forall i s, Map.find i m = Some s -> step_holds (meaning ss next v) i s) ->
  forall i s, Map.find i (index_steps ss next m) = Some s -> step_holds (meaning ss next v) i s.
Proof.
  induction ss as [|s ss I]; intros next v m O H i s' F; [apply H; exact F|]. cbn [index_steps] in F.
  pose proof (meaning_here s ss next v O) as Here. cbn [meaning] in *. cbn [steps_ordered] in O. apply andb_prop in O as [_ O].
  apply (I (after next s) (extend v next s) (Map.add next s m) O); [|exact F]. intros j t T. destruct (Pos.eq_dec j next) as [->|N]; [rewrite Map.gss in T; injection T as <-; exact Here|rewrite Map.gso in T by auto; apply H; exact T].
Qed.
Lemma constants_good e ss : forall next v m, steps_ordered ss next = true -> good e (meaning ss next v) m -> good e (meaning ss next v) (constants ss next m).
Proof.
  induction ss as [|s ss I]; intros next v m O G; auto. pose proof (meaning_here s ss next v O) as [Here _]. cbn [constants meaning] in *.
  cbn [steps_ordered] in O. apply andb_prop in O as [_ O]. apply I; auto. destruct s as [c|o a]; auto. cbn [results nth] in Here.
  apply good_add; auto.
  - rewrite Here. unfold value, bit_value. cbn [bits map place constant terms weighted add_up fold_right]. lia.
  - rewrite Here. unfold holds. cbn [lo hi hot]. rewrite !Z.leb_refl. destruct (is_power c); auto.
Qed.
Lemma index_cells_sound cs : forall i m, forallb check_cell cs = true -> (forall j c, Map.find j m = Some c -> check_cell c = true) ->
  forall j c, Map.find j (index_cells cs i m) = Some c -> check_cell c = true.
Proof.
  induction cs as [|c cs I]; intros i m A H j c' F; [eapply H; eauto|]. cbn in A. apply andb_prop in A as [A1 A2]. cbn in F. apply (I (Pos.succ i) (Map.add i c m) A2) with (j := j); [|exact F].
  intros k d D. destruct (Pos.eq_dec k i) as [->|N]; [rewrite Map.gss in D; injection D as <-; auto|rewrite Map.gso in D by auto; eauto].
Qed.
Lemma of_node_value e r : map (fun t => place t * bit_value e t) (map of_node r) = map (fun t : Z * node => fst t * (if e (snd t) then 1 else 0)) r.
Proof. rewrite map_map. apply map_ext. intros [w n]. unfold bit_value, of_node. cbn [place constant terms weighted fst snd]. destruct (e n); lia. Qed.
Lemma of_node_proper e r : forallb (fun t => is_bit (bit_value e t)) (map of_node r) = true.
Proof. induction r as [|[w n] r I]; cbn [map forallb]; auto. rewrite I. unfold bit_value, of_node. cbn. destruct (e n); auto. Qed.
Lemma nodes_range (e : node -> bool) r : low_end r <= add_up (map (fun t : Z * node => fst t * (if e (snd t) then 1 else 0)) r) <= high_end r.
Proof. unfold low_end, high_end, add_up. induction r as [|[w n] r I]; cbn [map fold_right fst snd]; [lia|]. destruct (e n); lia. Qed.
Lemma from_list_end_ge {A} (l : list A) : forall i, (i <= from_list_end l i)%positive.
Proof. induction l; intros i; cbn; [lia|]. specialize (IHl (Pos.succ i)). lia. Qed.
Lemma from_list_below l : forall i v n, (n < i)%positive -> from_list l i v n = v n.
Proof. induction l as [|x l I]; intros i v n L; cbn; auto. rewrite I by lia. unfold set. destruct (Pos.eqb_spec n i); auto. lia. Qed.
Lemma given_numbers_good e e' v' ps : forall i v m, (forall q, In q ps -> port_value e' q = port_value e q) ->
  (forall n, (n < from_list_end ps i)%positive -> v' n = from_list (map (port_value e) ps) i v n) ->
  good e' v' m -> good e' v' (given_numbers ps i m).
Proof.
  induction ps as [|q ps I]; intros i v m W H G; auto. cbn [given_numbers]. eapply I; [intros; apply W; right; auto|exact H|].
  assert (V : v' i = port_value e' q).
  { rewrite H by (cbn; pose proof (from_list_end_ge ps (Pos.succ i)); lia). cbn [map from_list]. rewrite from_list_below by lia. unfold set.
    rewrite Pos.eqb_refl. symmetry. apply W. left. auto. }
  apply good_add; auto.
  - rewrite V. unfold value. cbn [bits]. rewrite of_node_value. reflexivity.
  - rewrite V. unfold holds. cbn [lo hi hot negb orb]. unfold port_value. pose proof (nodes_range e' (of_port q)). rewrite !andb_true_iff.
    repeat split; auto; apply Z.leb_le; lia.
  - apply of_node_proper.
Qed.
Lemma weighted_without e n r : weighted e r = (if e n then weight_of n r else 0) + weighted e (without n r).
Proof.
  induction r as [|[k w] r I]; cbn [weighted weight_of without filter fst]; [destruct (e n); auto|]. fold (without n r).
  destruct (Pos.eqb_spec k n) as [->|N]; cbn [negb weighted].
  - destruct (e n); lia.
  - destruct (e n), (e k); lia.
Qed.
Lemma cancels_sound e fuel : forall r, cancels fuel r = true -> weighted e r = 0.
Proof.
  induction fuel as [|fuel I]; intros [|[n w] r] H; cbn [cancels] in H; auto; try discriminate.
  apply andb_prop in H as [H1 H2]. apply Z.eqb_eq in H1. rewrite (weighted_without e n), H1, (I _ H2). destruct (e n); auto.
Qed.
Lemma weighted_opposite e s : weighted e (map (fun t : node * Z => (fst t, - snd t)) s) = - weighted e s.
Proof. induction s as [|[n w] s I]; cbn [map weighted fst snd]; auto. rewrite I. destruct (e n); lia. Qed.
Lemma same_sum_sound e r s : same_sum r s = true -> weighted e r = weighted e s.
Proof. intros H. pose proof (cancels_sound e _ _ H) as C. rewrite weighted_app, weighted_opposite in C. lia. Qed.
Lemma bits_sum e ts : add_up (map (fun t => place t * bit_value e t) ts) = whole ts + weighted e (nodes_sum ts).
Proof.
  unfold whole, nodes_sum, add_up. induction ts as [|t ts I]; cbn [map fold_right flat_map weighted]; auto.
  rewrite weighted_app, weighted_scaled, I. unfold bit_value. lia.
Qed.
Lemma explained_value (e : node -> bool) last x t : (forall n g, Map.find n last = Some g -> e n = fires e g) -> proper e x = true ->
  place (explained last x t) * bit_value e (explained last x t) = fst t * (if e (snd t) then 1 else 0).
Proof.
  intros L Pr. assert (Own : place (of_node t) * bit_value e (of_node t) = fst t * (if e (snd t) then 1 else 0)).
  { unfold bit_value, of_node. cbn [place constant terms weighted]. destruct (e (snd t)); lia. }
  unfold explained. destruct (Map.find (snd t) last) as [g|] eqn:F; auto. pose proof (L _ _ F) as Fi. unfold fires in Fi.
  destruct (reads g) as [|h r] eqn:R.
  - rewrite Fi. unfold bit_value. cbn [place constant terms weighted]. destruct (theta g <=? 0); lia.
  - destruct (existsb _ (bits x)) eqn:X; auto. apply existsb_exists in X as (y & Y & Q). apply andb_prop in Q as [Q1 Q2].
    apply Z.eqb_eq in Q1. destruct (row_dec (terms y) (h :: r)) as [Q|]; [|discriminate].
    unfold proper in Pr. rewrite forallb_forall in Pr. specialize (Pr y Y). unfold is_bit in Pr. unfold bit_value in *. cbn [place constant terms].
    rewrite Q1, Q in Pr. apply orb_prop in Pr. rewrite Fi. f_equal. destruct (Z.leb_spec (theta g) (weighted e (h :: r))), Pr as [Pr|Pr]; apply Z.eqb_eq in Pr; lia.
Qed.
Lemma output_sound e last x q : (forall n g, Map.find n last = Some g -> e n = fires e g) -> proper e x = true -> check_output last x q = true ->
  port_value e q = value e x.
Proof.
  intros L Pr H. unfold check_output in H. apply andb_prop in H as [H1 H2]. apply andb_prop in H1 as [_ H1]. apply Z.eqb_eq in H1.
  unfold port_value, value. transitivity (add_up (map (fun t => place t * bit_value e t) (map (explained last x) (of_port q)))).
  - f_equal. rewrite map_map. apply map_ext. intros t. symmetry. apply explained_value; auto.
  - rewrite !bits_sum, H1, (same_sum_sound e _ _ H2). auto.
Qed.
Lemma outputs_sound e v known last qs : good e v known -> (forall n g, Map.find n last = Some g -> e n = fires e g) ->
  forall os, check_outputs known last qs os = true -> map (port_value e) qs = map v os.
Proof.
  intros G L. induction qs as [|q qs I]; intros [|o os] H; cbn in H; try discriminate; auto. apply andb_prop in H as [H1 H2].
  destruct (Map.find o known) as [x|] eqn:F; [|discriminate]. cbn [map]. rewrite (I _ H2). f_equal.
  destruct (G o x F) as (V & _ & Pr). rewrite (output_sound e last x q); auto.
Qed.

Theorem check_sound c t : check c t = true -> computes c.
Proof.
  unfold check. intros H e0. set (i := from_list_end (in_ports c) 1%positive) in *.
  destruct (check_calls _ _ _ _) as [[[known gs] place]|] eqn:K; [|rewrite andb_false_r in H; discriminate].
  repeat (apply andb_prop in H as [H ?H]). rename H into O, H0 into Out, H1 into Cells, H2 into St, H3 into Ports.
  cbv zeta. set (e := run (flat_map gates_in (banks c)) (first_gate c) e0).
  set (v0 := from_list (map (port_value e0) (in_ports c)) 1 (fun _ => 0)).
  assert (S1 : forall j s, Map.find j (index_steps (steps c) i (Map.empty step)) = Some s -> step_holds (meaning (steps c) i v0) j s).
  { apply index_steps_sound; auto. intros j s F. rewrite Map.gempty in F. discriminate. }
  assert (S2 : forall j d, Map.find j (index_cells (cells t) 1%positive (Map.empty cell)) = Some d -> check_cell d = true).
  { apply index_cells_sound; auto. intros j d F. rewrite Map.gempty in F. discriminate. }
  destruct (check_calls_sound e (meaning (steps c) i v0) _ _ _ S1 S2 _ _ _ _ _ _ K) as [G E].
  - apply constants_good; auto. apply (given_numbers_good e0 e _ (in_ports c) 1%positive (fun _ => 0)).
    + intros q Q. unfold port_value. f_equal. apply map_ext_in. intros s S. rewrite forallb_forall in Ports. specialize (Ports q Q).
      rewrite forallb_forall in Ports. specialize (Ports s S). apply Pos.ltb_lt in Ports. unfold e. rewrite run_below by exact Ports. auto.
    + intros n L. apply meaning_below. exact L.
    + intros j x F. rewrite Map.gempty in F. discriminate.
  - apply run_equations, ordered_all. exact O.
  - eapply outputs_sound; eauto. intros n g F. apply (index_gates_sound e (flat_map gates_in gs) place (Map.empty gate) E) in F; auto. intros k d D. rewrite Map.gempty in D. discriminate.
Qed.
