(* The check of a cell: a rule for each way in which an operation is shown right, for every input of the cell. *)
Require Import ZArith List Lia Bool FMapPositive.
Import ListNotations.
Require Import Claims Polynomials Cases Sums Carries Words Limits Formulas.
Open Scope Z_scope.

(* by all assignments; by what is said of its sum; as a function of one number, by its bank; as the larger of a number and
   1; by its exponent, with the bits of its mantissa; as one of several numbers *)
Inductive hint := Enumerated | Added (a : adding) | Read | Larger | Scaled (mantissa : list form) | Chosen.
Record cell := Cell { inputs : positive (* one more than its inputs *); banks_of : list bank; op : operation;
  arguments_of : list (list number); results_of : list number; how : hint }.
Definition gates_of (c : cell) : list gate := flat_map gates_in (banks_of c).
Fixpoint index_gates (gs : list gate) (next : node) (m : Map.t gate) : Map.t gate :=
  match gs with [] => m | g :: gs' => index_gates gs' (Pos.succ next) (Map.add next g m) end.

(* ---- numbers ---- *)
Definition form_of (t : bit) : form := (constant t, terms t).
Definition forms_of (x : number) : list form := map form_of (bits x).
(* places 1, 2, 4, ...; whether the last is negative *)
Fixpoint standard (w : Z) (ts : list bit) : option bool :=
  match ts with
  | [] => Some false
  | [t] => if place t =? w then Some false else if place t =? - w then Some true else None
  | t :: ts' => if place t =? w then standard (2 * w) ts' else None
  end.
Definition is_constant (x : number) : bool := forallb (fun t => match terms t with [] => is_bit (constant t) | _ => false end) (bits x).
Definition constant_of (x : number) : Z := value (fun _ => false) x.
Definition number_form (x : number) : form := fold_right (fun t f => add_forms (scale_form (place t) (form_of t)) f) (0, []) (bits x).
Fixpoint holds_rows (a : list (list number)) (v : list (list Z)) : bool :=
  match a, v with
  | [], [] => true
  | x :: a', y :: v' => forallb (fun t => holds (fst t) (snd t)) (combine x y) && holds_rows a' v'
  | _, _ => false
  end.
Fixpoint right_results (r : list number) (e : node -> bool) (v : list Z) : bool :=
  match r, v with
  | [], [] => true
  | x :: r', y :: v' => (value e x =? y) && holds x y && proper e x && right_results r' e v'
  | _, _ => false
  end.

(* every value from a to b is one of the number *)
Definition fits_result (x : number) (a b : Z) : bool :=
  negb (hot x) && (lo x <=? a) && (b <=? hi x) &&
  match standard 1 (bits x) with Some s => in_width s (length (bits x)) a && in_width s (length (bits x)) b | None => false end.
Definition constant_result (x : number) (v : Z) : bool := is_constant x && (constant_of x =? v) && holds x v.
(* the number is v where its bits are l *)
Definition right_now (x : number) (v : Z) (l : list Z) : bool :=
  forallb is_bit l && (add_up (products (map place (bits x)) l) =? v) && holds x v.

(* ---- rules ---- *)
Definition ends (width : option Z) : option Z * option Z := match width with None => (None, None) | Some p => (Some (- 2 ^ (p - 1)), Some (2 ^ (p - 1) - 1)) end.
Definition argument_bits (c : cell) : list form := flat_map (flat_map forms_of) (arguments_of c).
Definition is_sum (gm : Map.t gate) (c : cell) (a : adding) (x : exact) : bool :=
  let s := least x <? 0 in let n := length (sum_bits a) in
  check_sum gm (inputs c) (argument_bits c) a (poly x) && in_width s n (least x) && in_width s n (largest x).
Definition show (P : assignment -> verdict * assignment) : bool := by_cases most_cases P (Map.empty bool).
Definition behind (gm : Map.t gate) (a : adding) : Map.t gate := above (highest_node (sum_bits a)) gm.
Definition added (gm : Map.t gate) (c : cell) (a : adding) : bool :=
  match results_of c, as_sum (op c) (arguments_of c) with
  | [r], Some (x, s, w) =>
      let '(low, high) := ends w in
      let va := limit low high (least x / 2 ^ s) in let vb := limit low high (largest x / 2 ^ s) in
      (0 <=? s) && ((va =? vb) && constant_result r va ||
        fits_result r va vb && is_sum gm c a x && show (limit_case (behind gm a) (least x <? 0) (sum_bits a) s (least x) (largest x) low high (forms_of r)))
  | [r], None =>
      match op c, arguments_of c with
      | Rescale s w, [[x]; [y]; [power]] =>
          let '(low, high) := ends w in
          let p := product x y in
          let half_ k := 2 ^ (s - 1 + k) in
          let end_ z k := limit low high ((z + half_ k) / 2 ^ (s + k)) in
          (1 <=? s) && hot power && match standard 1 (bits power) with Some false => true | _ => false end &&
          forallb (fun k => fits_result r (end_ (least p) (Z.of_nat k)) (end_ (largest p) (Z.of_nat k))) (seq 0 (length (bits power))) &&
          (let all := plus p (times (2 ^ (s - 1)) (of_number power)) in
           is_sum gm c a all &&
           show (power_case (forms_of power) (fun k =>
             limit_case (behind gm a) (least all <? 0) (sum_bits a) (s + k) (least p + half_ k) (largest p + half_ k) low high (forms_of r))))
      | _, _ => false
      end
  | _, _ => false
  end.
Definition read_off (gm : Map.t gate) (c : cell) : bool :=
  match results_of c, arguments_of c with
  | [r], [[x]] =>
      reads_sum gm (number_form x) (lo x) (hi x) (forms_of r) (fun v l => match formula (op c) [[v]] with [y] => right_now r y l | _ => false end)
  | _, _ => false
  end.
Definition larger (gm : Map.t gate) (c : cell) : bool :=
  match op c, results_of c, arguments_of c with
  | AtLeastOne, [r], [[x]] =>
      match standard 1 (bits x) with
      | Some s => fits_result r (Z.max (lo x) 1) (Z.max (hi x) 1) && show (limit_case gm s (forms_of x) 0 (lo x) (hi x) (Some 1) None (forms_of r))
      | None => false
      end
  | _, _, _ => false
  end.
(* P of floor (log2 x / r), for x in lo..hi with bits fs *)
Definition exponent_case (fs : list form) (lo hi r : Z) (P : Z -> assignment -> verdict * assignment) (m : assignment) : verdict * assignment :=
  let '(a0, b0) := number_range m false fs in
  let a := Z.max a0 lo in let b := Z.min b0 hi in
  if b <? a then (Shown, m) else if Z.log2 a / r =? Z.log2 b / r then P (Z.log2 a / r) m else (ask_or_lose fs m, m).
Definition power_bits_case (gm : Map.t gate) (fs rs : list form) (k : Z) (m : assignment) : verdict * assignment :=
  match forms_known gm rs m with
  | (Some l, m') => (if bits_are (2 ^ k) l then Shown else Lost, m')
  | (None, m') => (ask_or_lose fs m, m')
  end.
Definition shifted_form (fs : list form) (up down : Z) (j : nat) : form :=
  let i := Z.of_nat j - up + down in if i <? 0 then (0, []) else form_at false fs (Z.to_nat i).
Definition mantissa_case (gm : Map.t gate) (fs ms : list form) (b r k : Z) (m : assignment) : verdict * assignment :=
  (if copies gm m (shifted_form fs b (r * k)) 0 ms then Shown else ask_or_lose fs m, m).
Definition scaled (gm : Map.t gate) (c : cell) (ms : list form) : bool :=
  match op c, results_of c, arguments_of c with
  | Inverse t_lo t b r, [y; power], [[x]] =>
      let top := Z.log2 (hi x) / r in let n := length (bits power) in let fs := forms_of x in
      match standard 1 (bits x), standard 1 (bits power) with
      | Some false, Some false =>
          (1 <=? lo x) && (1 <=? r) && (0 <=? b) && (Z.of_nat (length ms) =? b + r) &&
          (lo power <=? 1) && (2 ^ top <=? hi power) && in_width false n (2 ^ top) &&
          show (exponent_case fs (lo x) (hi x) r (power_bits_case gm fs (forms_of power))) &&
          show (exponent_case fs (lo x) (hi x) r (mantissa_case gm fs ms b r)) &&
          reads_sum gm (joined (map (fun f => [f]) ms)) (2 ^ b) (2 ^ (b + r) - 1) (forms_of y) (fun v l => match entry t (v - t_lo) with [z] => right_now y z l | _ => false end)
      | _, _ => false
      end
  | _, _, _ => false
  end.
Definition bit_form (x : number) (j : nat) : form :=
  if is_constant x then (Z.b2z (Z.testbit (constant_of x) (Z.of_nat j)), [])
  else form_at (match standard 1 (bits x) with Some s => s | None => false end) (forms_of x) j.
Definition has_bits (x : number) : bool := is_constant x || match standard 1 (bits x) with Some _ => true | None => false end.
Definition no_number := Number [] 0 0 false.
Definition chosen (gm : Map.t gate) (c : cell) : bool :=
  match op c, results_of c, arguments_of c with
  | Select, [r], [[power]; xs] =>
      hot power && match standard 1 (bits power) with Some false => true | _ => false end && Nat.eqb (length xs) (length (bits power)) &&
      forallb (fun x => has_bits x && fits_result r (lo x) (hi x)) xs &&
      show (power_case (forms_of power) (fun k m => (if copies gm m (bit_form (nth (Z.to_nat k) xs no_number)) 0 (forms_of r) then Shown else Lost, m)))
  | _, _, _ => false
  end.

(* ---- by every assignment ---- *)
Definition look (m : assignment) (n : node) : bool := match Map.find n m with Some b => b | None => false end.
Fixpoint evaluate (gs : list gate) (next : node) (m : assignment) : assignment :=
  match gs with [] => m | g :: gs' => evaluate gs' (Pos.succ next) (Map.add next (fires (look m) g) m) end.
Definition below_ (n : node) (r : row) : bool := forallb (fun t : node * Z => Pos.ltb (fst t) n) r.
Fixpoint ordered (gs : list gate) (next : node) : bool :=
  match gs with [] => true | g :: gs' => below_ next (reads g) && ordered gs' (Pos.succ next) end.
Fixpoint length_pos {A} (l : list A) (i : positive) : positive := match l with [] => i | _ :: l' => length_pos l' (Pos.succ i) end.
Definition bounded (n : node) (x : number) : bool := forallb (fun t => below_ n (terms t)) (bits x).
Definition right_here (c : cell) (gs : list gate) (m : assignment) : bool :=
  let e := look (evaluate gs (inputs c) m) in
  let a := map (map (value e)) (arguments_of c) in
  negb (holds_rows (arguments_of c) a && forallb (forallb (proper e)) (arguments_of c)) || right_results (results_of c) e (formula (op c) a).
Fixpoint every (left : nat) (next : node) (m : assignment) (P : assignment -> bool) : bool :=
  match left with
  | O => P m
  | S left' => every left' (Pos.succ next) (Map.add next false m) P && every left' (Pos.succ next) (Map.add next true m) P
  end.
Definition enumerated (c : cell) (gs : list gate) : bool :=
  let end_ := length_pos gs (inputs c) in
  ordered gs (inputs c) &&
  forallb (forallb (bounded end_)) (arguments_of c) && forallb (bounded end_) (results_of c) &&
  every (Pos.to_nat (inputs c) - 1) 1%positive (Map.empty bool) (right_here c gs).

(* What the format asks of a cell, whatever shows it right: a number of selectors can be each of their powers, and no column
   is counted twice in a stage. *)
Definition covers (x : number) : bool := (lo x <=? 0) && (2 ^ (Z.of_nat (length (bits x)) - 1) <=? hi x).
Fixpoint apart (ps : list part) : bool :=
  match ps with
  | [] => true
  | t :: ps' => forallb (fun u => Nat.leb (start t + span t) (start u) || Nat.leb (start u + span u) (start t)) ps' && apart ps'
  end.
Definition well_formed (c : cell) : bool :=
  match op c, arguments_of c, results_of c with
  | Inverse _ _ _ r, [[x]], [_; power] => (lo power =? 0) && covers power && (hi x <? 2 ^ (r * Z.of_nat (length (bits power))))
  | Rescale _ _, [_; _; [power]], _ => (lo power =? 0) && covers power
  | OneHot size, _, [r] => (Z.of_nat (length (bits r)) =? size) && covers r
  | _, _, _ => true
  end && match how c with Added a => forallb apart (stages a) | _ => true end.

Definition check_cell (c : cell) : bool :=
  let gs := gates_of c in let gm := index_gates gs (inputs c) (Map.empty gate) in
  Nat.eqb (length (results_of c)) (arity (Application (op c) [])) && well_formed c &&
  match how c with
  | Enumerated => enumerated c gs
  | Added a => added gm c a
  | Read => read_off gm c
  | Larger => larger gm c
  | Scaled ms => scaled gm c ms
  | Chosen => chosen gm c
  end.
