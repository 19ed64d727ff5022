(* The main theorem, stated. Circuits are defined in Threshold.v (first 20 lines), the bits of numbers in Bits.v (first
   10), the model in FlowAR.v, the rounded operations it uses in Arithmetic.v; nothing else is needed to read it. *)
Require Import ZArith List.
Import ListNotations.
Require Import Threshold Bits Arithmetic FlowAR.
Open Scope Z_scope.

(* what the depth may depend on *)
Record architecture := Architecture {
  scales_of : nat; encoder_blocks : nat; decoder_blocks : nat; flow_blocks_of : nat; euler_steps : nat;
  halves_of : nat  (* 2 with guidance, 1 without *) }.
Definition has_architecture (A : architecture) (m : model) : Prop :=
  length (tokens m) = scales_of A /\ length (encoder m) = encoder_blocks A /\ length (decoder m) = decoder_blocks A /\
  length (flow m) = flow_blocks_of A /\ steps_ m = euler_steps A /\ length (halves m) = halves_of A /\ tokens m <> [].
Definition depth_of (A : architecture) : nat :=
  3 * (scales_of A * (halves_of A * (16 + 22 * (encoder_blocks A + decoder_blocks A)) +
                      euler_steps A * (halves_of A * (8 + 22 * flow_blocks_of A) + 1))) + 2.

(* all tokens, channels, widths and heads are at most s: n^c when the largest feature map is n x n *)
Definition sizes_within (s : nat) (m : model) : Prop :=
  (all_tokens m <= s /\ channels m <= s /\ heads m <= s /\ 2 * pairs_of m <= s /\ width m <= s /\ hidden m <= s /\
   flow_heads m <= s /\ 2 * flow_pairs m <= s /\ flow_width m <= s /\ flow_hidden m <= s)%nat.

(* p bits, f of them behind the point; p = O(log n) *)
Definition precision_within (s : nat) (a : arithmetic) : Prop := 1 <= p a /\ 0 <= f a < p a /\ 2 ^ p a <= Z.of_nat s.
Definition bits (a : arithmetic) : nat := Z.to_nat (p a).

(* label and noise, as p-bit numbers *)
Definition input_of (a : arithmetic) (m : model) (u : list Z) : Prop := length u = inputs_ m /\ Forall (fits (bits a)) u.
Definition last_map (m : model) : tab -> list Z := flatten (last (tokens m) 0%nat) (channels m).

(* Of depth given by the architecture alone, and of polynomial size and weights: for every n, every precision p = O(log n),
   every choice of functions and weights, there is a circuit that computes the model on every input. *)
Definition flowar_in_constant_depth : Prop :=
  forall (A : architecture) (c : nat), exists k : nat, forall (n : nat) (a : arithmetic) (m : model),
    (2 <= n)%nat -> has_architecture A m -> sizes_within (n ^ c) m -> precision_within (n ^ c) a ->
    exists C : circuit,
      depth C = depth_of A /\ Z.of_nat (size C) <= Z.of_nat n ^ Z.of_nat k /\ weights_within (Z.of_nat n ^ Z.of_nat k) C /\
      forall u, input_of a m u -> run C (encode_all (bits a) u) = encode_all (bits a) (last_map m (flowar a m u)).
