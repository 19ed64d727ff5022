(* What the second checker's verdict means: circuits, models, and that a circuit computes a model. *)
Require Import ZArith List Lia Bool.
Import ListNotations.
Open Scope Z_scope.

(* ---- circuits: nodes 1, 2, ... are the inputs, then the gates [sum of weight * node >= theta], in order. Gates that
   share their sum are a bank. ---- *)
Definition node := positive.
Definition row := list (node * Z).
Record gate := Gate { reads : row; theta : Z }.
Record bank := Bank { sum_of : row; thetas : list Z }.
Fixpoint weighted (e : node -> bool) (r : row) : Z :=
  match r with [] => 0 | (n, w) :: r' => (if e n then w else 0) + weighted e r' end.
Definition fires (e : node -> bool) (g : gate) : bool := theta g <=? weighted e (reads g).
Fixpoint run (gates : list gate) (next : node) (e : node -> bool) : node -> bool :=
  match gates with [] => e | g :: gs => run gs (Pos.succ next) (fun n => if Pos.eqb n next then fires e g else e n) end.
Definition gates_in (b : bank) : list gate := map (Gate (sum_of b)) (thetas b).

(* ---- models: values 1, 2, ... are the inputs, then the results of each step ---- *)
Inductive operation :=
| Dot (bias_shift shift : Z) (width : option Z)
| Fused (shift : Z) (width : option Z)
| Mix (coefficients : list Z) (shift : Z) (width : option Z)
| Total (plus : Z)
| SquareSum (plus shift : Z) (width : option Z)
| CentredSquareSum
| Ceiling (shift : Z)
| AtLeastOne
| Apply (lo : Z) (table : list Z)
| Inverse (lo : Z) (table : list Z) (bits root : Z)
| Rescale (shift : Z) (width : option Z)
| OneHot (size : Z)
| Select.
Definition half (s : Z) := 2 ^ s / 2.
Definition clamp (width : option Z) (x : Z) :=
  match width with None => x | Some p => Z.min (Z.max x (- 2 ^ (p - 1))) (2 ^ (p - 1) - 1) end.
Definition narrow (s : Z) (width : option Z) (x : Z) := clamp width ((x + half s) / 2 ^ s).
Definition add_up (l : list Z) := fold_right Z.add 0 l.
Definition products (x y : list Z) := map (fun t : Z * Z => fst t * snd t) (combine x y).
Definition is_power (x : Z) : bool := (0 <? x) && (x =? 2 ^ Z.log2 x).
(* entry k of the list, where it has one *)
Definition entry (l : list Z) (k : Z) : list Z := if (0 <=? k) && (k <? Z.of_nat (length l)) then [nth (Z.to_nat k) l 0] else [].
(* arguments are rows of values, single values rows of one; no results where the operation is not defined *)
Definition formula (o : operation) (a : list (list Z)) : list Z :=
  match o, a with
  | Dot bs s w, x :: y :: b => [narrow s w (add_up (products x y) + add_up (map add_up b) * 2 ^ bs)]
  | Fused s w, [[x]; [y]; [z]] => [narrow s w (x * y + z * 2 ^ s)]
  | Mix c s w, xs => [narrow s w (add_up (products c (concat xs)))]
  | Total plus, [x] => [add_up x + plus]
  | SquareSum plus s w, [x] => [narrow s w (add_up (products x x) + plus)]
  | CentredSquareSum, [x; [t]] => let d := Z.of_nat (length x) in [d * d * add_up (products x x) - d * t * t + 1]
  | Ceiling s, [x0 :: x] => [1 + fold_right Z.max (x0 / 2 ^ s) (map (fun v => v / 2 ^ s) x)]
  | AtLeastOne, [[x]] => [Z.max x 1]
  | Apply lo t, [[x]] => entry t (x - lo)
  | Inverse lo t b r, [[x]] =>
      let e := Z.log2 x / r in if 1 <=? x then match entry t (x * 2 ^ b / 2 ^ (r * e) - lo) with [y] => [y; 2 ^ e] | _ => [] end else []
  | Rescale s w, [[x]; [y]; [power]] =>
      if is_power power then [clamp w ((x * y + power * 2 ^ (s - 1)) / (2 * (power * 2 ^ (s - 1))))] else []
  | OneHot size, [[i]] => if 0 <=? i then [2 ^ Z.min i (size - 1)] else []
  | Select, [[power]; x] => if is_power power then entry x (Z.log2 power) else []
  | _, _ => []
  end.
Inductive step := Constant (c : Z) | Application (o : operation) (arguments : list (list positive)).
Definition results (v : positive -> Z) (s : step) : list Z :=
  match s with Constant c => [c] | Application o a => formula o (map (map v) a) end.
(* how many values a step adds *)
Definition arity (s : step) : nat := match s with Application (Inverse _ _ _ _) _ => 2 | _ => 1 end.
Definition set (v : positive -> Z) (i : positive) (c : Z) : positive -> Z := fun j => if Pos.eqb j i then c else v j.
Definition extend (v : positive -> Z) (i : positive) (s : step) : positive -> Z :=
  let r := results v s in
  match arity s with 2%nat => set (set v i (nth 0 r 0)) (Pos.succ i) (nth 1 r 0) | _ => set v i (nth 0 r 0) end.
Definition after (i : positive) (s : step) : positive := match arity s with 2%nat => Pos.succ (Pos.succ i) | _ => Pos.succ i end.
Fixpoint meaning (steps : list step) (next : positive) (v : positive -> Z) : positive -> Z :=
  match steps with [] => v | s :: ss => meaning ss (after next s) (extend v next s) end.

(* ---- numbers of the circuit: sum of place * bit, a bit being constant + sum of weight * node; within lo..hi; hot: a
   power of two ---- *)
Record bit := Bit { place : Z; constant : Z; terms : row }.
Record number := Number { bits : list bit; lo : Z; hi : Z; hot : bool }.
Definition bit_value (e : node -> bool) (x : bit) : Z := constant x + weighted e (terms x).
Definition value (e : node -> bool) (x : number) : Z := add_up (map (fun t => place t * bit_value e t) (bits x)).
Definition is_bit (x : Z) : bool := (x =? 0) || (x =? 1).
Definition proper (e : node -> bool) (x : number) : bool := forallb (fun t => is_bit (bit_value e t)) (bits x).
Definition holds (x : number) (v : Z) : bool := (lo x <=? v) && (v <=? hi x) && (negb (hot x) || is_power v).

(* an element of a port: its nodes, low bit first, and whether the last weighs its negative *)
Record port := Port { nodes : list node; signed : bool }.
Fixpoint places (w : Z) (ns : list node) (s : bool) : list (Z * node) :=
  match ns with [] => [] | [n] => [(if s then - w else w, n)] | n :: ns' => (w, n) :: places (2 * w) ns' s end.
Definition of_port (q : port) : list (Z * node) := places 1 (nodes q) (signed q).
Definition port_value (e : node -> bool) (q : port) : Z := add_up (map (fun t => fst t * (if e (snd t) then 1 else 0)) (of_port q)).

(* What is claimed: whatever the input bits, the output ports hold the model's outputs for the numbers on the input ports. *)
Record claim := Claim {
  banks : list bank; in_ports : list port; out_ports : list port;
  first_gate : node;
  steps : list step; outputs : list positive }.
Fixpoint from_list (l : list Z) (i : positive) (v : positive -> Z) : positive -> Z :=
  match l with [] => v | x :: l' => from_list l' (Pos.succ i) (set v i x) end.
Fixpoint from_list_end {A} (l : list A) (i : positive) : positive := match l with [] => i | _ :: l' => from_list_end l' (Pos.succ i) end.
Definition computes (c : claim) : Prop := forall e : node -> bool,
  let after_ := run (flat_map gates_in (banks c)) (first_gate c) e in
  let numbers := map (port_value e) (in_ports c) in
  let v := meaning (steps c) (from_list_end (in_ports c) 1) (from_list numbers 1 (fun _ => 0)) in
  map (port_value after_) (out_ports c) = map v (outputs c).
