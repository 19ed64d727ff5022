(* Rounded integer arithmetic on tables: what each operation of the models means. Every operation is exact, then divided
   by a power of two, rounded to nearest (halves up), and saturated to p bits, as in circuits/proof/meaning.py. *)
Require Import ZArith List.
Import ListNotations.
Require Import Cells.
Open Scope Z_scope.

Definition tab := nat -> nat -> Z.
(* the table of r rows and c columns that f describes, computed once *)
Definition tabulate (r c : nat) (f : tab) : tab :=
  let rows := map (fun i => map (f i) (seq 0 c)) (seq 0 r) in fun i j => nth j (nth i rows []) 0.
Definition sum (n : nat) (f : nat -> Z) : Z := add_up (map f (seq 0 n)).

Definition half (s : Z) : Z := 2 ^ s / 2.
Definition clamp (p x : Z) : Z := Z.min (Z.max x (- 2 ^ (p - 1))) (2 ^ (p - 1) - 1).
Definition narrow (p s x : Z) : Z := clamp p ((x + half s) / 2 ^ s).
(* x factor / (2^s power), rounded *)
Definition rescale (p s x factor power : Z) : Z :=
  let divisor := power * 2 ^ (s - 1) in clamp p ((x * factor + divisor) / (2 * divisor)).
(* x F(m) / (2^s 2^e), where 2^(root e) is the largest such power up to y, and m the first digits of y *)
Definition quotient (p root s : Z) (F : Z -> Z) (x y : Z) : Z :=
  let e := Z.log2 y / root in rescale p s x (F (y * 2 ^ p / 2 ^ (root * e))) (2 ^ e).

(* the format: p-bit numbers with f fraction bits; and the functions, each of one integer, however they round *)
Record arithmetic := Arith {
  p : Z; f : Z;
  exp : Z -> Z; silu : Z -> Z; gelu : Z -> Z; reciprocal : Z -> Z;
  inverse_root : nat -> Z -> Z  (* for vectors of this width *)
}.

(* weights and biases as integers: weights of p bits with [own] fraction bits, biases with f *)
Record linear := Linear { weight : tab; bias : nat -> Z; own : Z }.

Section Operations.
Variable a : arithmetic.
Notation p := (p a). Notation f := (f a).

Definition zero : tab := fun _ _ => 0.
Definition columns (from : nat) (x : tab) : tab := fun i j => x i (from + j)%nat.
Definition below (s : nat) (x y : tab) : tab := fun i j => if (i <? s)%nat then x i j else y (i - s)%nat j.

Definition apply_linear (t d o : nat) (l : linear) (x : tab) : tab := tabulate t o (fun i j =>
  narrow p (own l) (sum d (fun k => x i k * clamp p (weight l j k)) + bias l j * 2 ^ own l)).
Definition add (t d : nat) (x y : tab) : tab := tabulate t d (fun i j => clamp p (x i j + y i j)).
Definition add_constant (t d : nat) (x c : tab) : tab := tabulate t d (fun i j => clamp p (x i j + c i j)).
Definition multiply (t d : nat) (x y : tab) : tab := tabulate t d (fun i j => narrow p f (x i j * y i j)).
Definition weigh (t d : nat) (w : nat -> Z) (x : tab) : tab := tabulate t d (fun i j => narrow p f (x i j * clamp p (w j))).
Definition fused (t d : nat) (x y z : tab) : tab := tabulate t d (fun i j => narrow p f (x i j * y i j + z i j * 2 ^ f)).
Definition apply (t d : nat) (g : Z -> Z) (x : tab) : tab := tabulate t d (fun i j => clamp p (g (x i j))).
(* one row of a table that depends on a label *)
Definition look_up (d : nat) (entries : Z -> nat -> Z) (label : Z) : tab := tabulate 1 d (fun _ j => clamp p (entries label j)).
(* down- and up-sampling: a constant linear map over tokens, t from s *)
Definition resample (t s c : nat) (m : tab) (m_own : Z) (x : tab) : tab := tabulate t c (fun i j =>
  narrow p m_own (sum s (fun k => x k j * clamp p (m i k)))).

(* x / sqrt(mean x^2); one is added to the squares so that they have a logarithm *)
Definition squares (t d : nat) (x : tab) : tab := tabulate t 1 (fun i _ => 1 + sum d (fun k => x i k * x i k)).
Definition rms_norm (t d : nat) (x : tab) : tab :=
  let s := squares t d x in tabulate t d (fun i j => quotient p 2 (p - f) (inverse_root a d) (x i j) (s i 0%nat)).

(* turn neighbouring pairs of each head of width 2 e by matrices: m i (4 pair + 2 row + column) *)
Definition rotate (t d e : nat) (m : tab) (m_own : Z) (x : tab) : tab := tabulate t d (fun i j =>
  let at_ := (4 * ((j mod (2 * e)) / 2) + 2 * (j mod 2))%nat in
  narrow p m_own (x i (2 * (j / 2))%nat * clamp p (m i at_) + x i (2 * (j / 2) + 1)%nat * clamp p (m i (at_ + 1)%nat))).

(* softmax attention of t queries over s keys, in heads of width e: exp, two sums, quotient *)
Definition exponentials (t s h e : nat) (q k : tab) : tab := tabulate t (h * s) (fun i c =>
  let head := (c / s)%nat in
  clamp (3 * p) (exp a (narrow p f (sum e (fun l => q i (head * e + l)%nat * k (c mod s)%nat (head * e + l)%nat))))).
Definition denominators (t s h : nat) (x : tab) : tab := tabulate t h (fun i head => 1 + sum s (fun k => x i (head * s + k)%nat)).
Definition numerators (t s h e : nat) (x v : tab) : tab := tabulate t (h * e) (fun i j => sum s (fun k => x i (j / e * s + k)%nat * v k j)).
Definition attention (t s h e : nat) (q k v : tab) : tab :=
  let x := exponentials t s h e q k in
  let y := denominators t s h x in
  let z := numerators t s h e x v in
  tabulate t (h * e) (fun i j => quotient p 1 p (reciprocal a) (z i j) (y i (j / e)%nat)).

(* ---- what SiT and ARFlow use beside these ---- *)
(* (x - mean) / standard deviation, of d x - sum x: nothing is divided by d *)
Definition totals (t d : nat) (x : tab) : tab := tabulate t 1 (fun i _ => sum d (fun k => x i k)).
Definition centred (t d : nat) (x total : tab) : tab := tabulate t d (fun i j => Z.of_nat d * x i j - total i 0%nat).
Definition centred_squares (t d : nat) (x total : tab) : tab := let D := Z.of_nat d in tabulate t 1 (fun i _ =>
  D * D * sum d (fun k => x i k * x i k) - D * (total i 0%nat * total i 0%nat) + 1).
Definition layer_norm (t d : nat) (x : tab) : tab :=
  let total := totals t d x in
  let s := centred_squares t d x total in
  let y := centred t d x total in
  tabulate t d (fun i j => quotient p 2 (p - f) (inverse_root a d) (y i j) (s i 0%nat)).
(* F(mean square) x for each of h vectors of width e, by some inverse root F; d = h e *)
Definition head_squares (t h e : nat) (x : tab) : tab := tabulate t h (fun i g => 1 + sum e (fun l => x i (g * e + l)%nat * x i (g * e + l)%nat)).
Definition norm_heads (F : Z -> Z) (t d h e : nat) (x : tab) : tab :=
  let s := head_squares t h e x in tabulate t d (fun i j => quotient p 2 (p - f) F (x i j) (s i (j / e)%nat)).
(* a function whose values may have two bits more *)
Definition apply_wide (t c : nat) (g : Z -> Z) (x : tab) : tab := tabulate t c (fun i j => clamp (p + 2) (g (x i j))).
(* sums of all rows up to each, and of all *)
Definition running (t c : nat) (x : tab) : tab := tabulate t c (fun i j => sum (S i) (fun k => x k j)).
Definition overall (t c : nat) (x : tab) : tab := tabulate 1 c (fun _ j => sum t (fun k => x k j)).
(* a state of d = h e rows and e columns: sum k v over tokens; q times it; weights with p fraction bits times a table, plus another *)
Definition outer (t d e : nat) (k v : tab) : tab := tabulate d e (fun r c => narrow p f (sum t (fun i => k i r * v i (r / e * e + c)%nat))).
Definition read_state (t d e : nat) (q m : tab) : tab := tabulate t d (fun i j =>
  narrow p f (sum e (fun l => q i (j / e * e + l)%nat * m (j / e * e + l)%nat (j mod e)%nat))).
Definition blend (t d : nat) (w x y : tab) : tab := tabulate t d (fun i j => narrow p p (w i j * x i j + y i j * 2 ^ p)).

(* x + the sum of coefficients / 256 times velocities, rounded once *)
Definition move (t c : nat) (coefficients : list Z) (velocities : list tab) (x : tab) : tab := tabulate t c (fun i j =>
  narrow p 8 (256 * x i j + add_up (map (fun m : Z * tab => clamp (p + 8) (fst m) * snd m i j) (combine coefficients velocities)))).
End Operations.
