(* The theorem for SiT and ARFlow, stated as FlowAR's in Statement.v, whose `precision_within` and `bits` it uses. The model is
   in DiT.v. *)
Require Import ZArith List.
Import ListNotations.
Require Import Threshold Bits Arithmetic Statement DiT.
Open Scope Z_scope.

(* what the depth may depend on; a SiT has no hybrid blocks, an ARFlow no others *)
Record dit_architecture := DitArchitecture { softmax_blocks : nat; hybrid_blocks : nat; dit_steps : nat; dit_halves : nat }.
Definition is_hybrid (b : block) : bool := match mixer_of b with Hybrid _ _ _ _ _ _ => true | Softmax _ _ => false end.
Definition has_dit_architecture (A : dit_architecture) (m : model) : Prop :=
  length (filter is_hybrid (blocks m)) = hybrid_blocks A /\ length (blocks m) = (softmax_blocks A + hybrid_blocks A)%nat /\
  steps_ m = dit_steps A /\ length (halves m) = dit_halves A.
Definition dit_depth (A : dit_architecture) : nat :=
  3 * (1 + dit_steps A * (dit_halves A * (12 + 22 * softmax_blocks A + 46 * hybrid_blocks A) + 1)) + 2.

(* tokens, numbers of a token, heads and widths are at most s *)
Definition dit_sizes_within (s : nat) (m : model) : Prop :=
  (tokens m <= s /\ in_token m <= s /\ heads m <= s /\ head_size m <= s /\ width m <= s /\ hidden m <= s)%nat.

(* label and noise, as p-bit numbers *)
Definition dit_input (a : arithmetic) (m : model) (u : list Z) : Prop := length u = inputs_ m /\ Forall (fits (bits a)) u.
Definition image (m : model) : tab -> list Z := flatten (pixels m) (channels m).

Definition dit_in_constant_depth : Prop :=
  forall (A : dit_architecture) (c : nat), exists k : nat, forall (n : nat) (a : arithmetic) (m : model),
    (2 <= n)%nat -> has_dit_architecture A m -> dit_sizes_within (n ^ c) m -> precision_within (n ^ c) a ->
    exists C : circuit,
      depth C = dit_depth A /\ Z.of_nat (size C) <= Z.of_nat n ^ Z.of_nat k /\ weights_within (Z.of_nat n ^ Z.of_nat k) C /\
      forall u, dit_input a m u -> run C (encode_all (bits a) u) = encode_all (bits a) (image m (dit a m u)).
