(* FlowAR inference (arXiv 2412.15205; Section 4 of arXiv 2502.16490) as a function on tables of p-bit numbers. *)
Require Import ZArith List.
Import ListNotations.
Require Import Cells Arithmetic.
Open Scope Z_scope.

(* attention, then a gated feed-forward layer *)
Record layers := Layers { qkv : linear; proj : linear; gate : linear; value : linear; out_ : linear }.
(* a block of the transformer, whose modulation depends on the label, and one of the flow head *)
Record block := Block { inside : layers; by_label : Z -> nat -> Z }.
Record flow_block := FlowBlock { flow_inside : layers; by_condition : linear }.

Record model := Model {
  tokens : list nat;                (* of each scale *)
  channels : nat;
  heads : nat; pairs_of : nat;      (* heads of width 2 pairs; the width of the model is heads * (2 * pairs) *)
  hidden : nat;                     (* of the feed-forward layers *)
  flow_heads : nat; flow_pairs : nat; flow_hidden : nat;
  halves : list (Z -> Z);           (* of the label: itself, and with guidance the null label *)
  class_embed : Z -> nat -> Z;
  input_ : linear; input_norm : nat -> Z;
  encoder_position : tab; encoder : list block; encoder_norm : nat -> Z;
  decoder_proj : linear; decoder_position : tab; decoder : list block; decoder_norm : nat -> Z;
  semantics_position : tab;
  rotation : tab; rotation_own : nat -> Z; flow_rotation : tab; flow_rotation_own : nat -> Z;  (* by first token *)
  condition : linear; time : nat -> nat -> Z; flow_input : linear;
  flow : list flow_block; final : linear; output_ : linear;
  resampling : nat -> tab; resampling_own : nat -> Z;   (* between scales *)
  steps_ : nat;                     (* Euler steps *)
  coefficients_ : nat -> nat -> list Z  (* of scale, step and half: 256 times step size times share of guidance *)
}.

Section Model.
Variables (a : arithmetic) (m : model).
Definition width := (heads m * (2 * pairs_of m))%nat.
Definition flow_width := (flow_heads m * (2 * flow_pairs m))%nat.
Definition from (start : nat) (x : tab) : tab := fun i j => x (start + i)%nat j.

Definition gated_mlp (t d hid : nat) (l : layers) (x : tab) : tab :=
  let g := apply a t hid (gelu a) (apply_linear a t d hid (gate l) x) in
  let v := apply_linear a t d hid (value l) x in
  apply_linear a t hid d (out_ l) (multiply a t hid g v).

(* x + gamma1 attention(norm(x) scale1 + shift1), then the feed-forward layer alike (adaLN); keys and values of earlier
   tokens come in, and those of all go out *)
Definition run_block (t s h e hid : nat) (rot : tab) (rot_own : Z) (l : layers) (modulation : tab) (seen : tab * tab) (x : tab)
    : tab * (tab * tab) :=
  let d := (h * (2 * e))%nat in
  let inner := fused a t d (rms_norm a t d x) (columns (2 * d) modulation) (columns (4 * d) modulation) in
  let all := apply_linear a t d (3 * d) (qkv l) inner in
  let q := rotate a t d e rot rot_own all in
  let k := below s (fst seen) (rotate a t d e rot rot_own (columns d all)) in
  let v := below s (snd seen) (columns (2 * d) all) in
  let mixed := attention a t (s + t) h (2 * e) q k v in
  let x1 := fused a t d modulation (apply_linear a t d d (proj l) mixed) x in
  let inner2 := fused a t d (rms_norm a t d x1) (columns (3 * d) modulation) (columns (5 * d) modulation) in
  (fused a t d (columns d modulation) (gated_mlp t d hid l inner2) x1, (k, v)).

(* one after another; each block has its own keys and values *)
Fixpoint run_blocks (t s : nat) (start : nat) (label : Z) (bs : list block) (seen : list (tab * tab)) (x : tab) : tab * list (tab * tab) :=
  match bs with
  | [] => (x, [])
  | b :: bs' =>
      let row := look_up a (6 * width) (by_label b) label in
      let r := run_block t s (heads m) (pairs_of m) (hidden m) (from start (rotation m)) (rotation_own m start) (inside b)
        (fun _ j => row 0%nat j) (hd (zero, zero) seen) x in
      let r' := run_blocks t s start label bs' (tl seen) (fst r) in
      (fst r', snd r :: snd r')
  end.

(* the semantic map of a scale of t tokens behind s earlier ones, and all keys and values *)
Definition transformer (t s : nat) (label : Z) (seen : list (tab * tab) * list (tab * tab)) (x : tab)
    : tab * (list (tab * tab) * list (tab * tab)) :=
  let x1 := add_constant a t width x (from s (encoder_position m)) in
  let x2 := weigh a t width (input_norm m) (rms_norm a t width x1) in
  let r := run_blocks t s s label (encoder m) (fst seen) x2 in
  let x3 := weigh a t width (encoder_norm m) (rms_norm a t width (fst r)) in
  let x4 := apply_linear a t width width (decoder_proj m) x3 in
  let x5 := add_constant a t width x4 (from s (decoder_position m)) in
  let r' := run_blocks t s s label (decoder m) (snd seen) x5 in
  let x6 := weigh a t width (decoder_norm m) (rms_norm a t width (fst r')) in
  (add_constant a t width x6 (from s (semantics_position m)), (snd r, snd r')).

(* what the transformer reads at a scale: the class at the first, else the map before, resized from r tokens *)
Definition first_tokens (label : Z) : tab := let row := look_up a width (class_embed m) label in fun _ j => row 0%nat j.
Definition next_tokens (scale t r : nat) (map_ : tab) : tab :=
  apply_linear a t (channels m) width (input_ m) (resample a t r (channels m) (resampling m scale) (resampling_own m scale) map_).

Fixpoint flow_blocks (t start : nat) (cond : tab) (bs : list flow_block) (x : tab) : tab :=
  match bs with
  | [] => x
  | b :: bs' =>
      let modulation := apply_linear a t flow_width (6 * flow_width) (by_condition b) cond in
      let r := run_block t 0 (flow_heads m) (flow_pairs m) (flow_hidden m) (from start (flow_rotation m)) (flow_rotation_own m start) (flow_inside b)
        modulation (zero, zero) x in
      flow_blocks t start cond bs' (fst r)
  end.
(* the velocity of noised tokens, given the embedded semantic map and the number of the step *)
Definition velocity (t start step : nat) (embedded x : tab) : tab :=
  let cond := apply a t flow_width (silu a) (add_constant a t flow_width embedded (fun _ j => time m step j)) in
  let x1 := apply_linear a t (channels m) flow_width (flow_input m) x in
  let x2 := flow_blocks t start cond (flow m) x1 in
  let last := apply_linear a t flow_width (2 * flow_width) (final m) cond in
  let x3 := fused a t flow_width (rms_norm a t flow_width x2) (columns flow_width last) last in
  apply_linear a t flow_width (channels m) (output_ m) x3.

(* the flow-matching layer: so many Euler steps, from step number n on *)
Fixpoint euler (t start scale : nat) (n count : nat) (embedded : list tab) (x : tab) : tab :=
  match count with
  | O => x
  | S count' => euler t start scale (S n) count' embedded
      (move a t (channels m) (coefficients_ m scale n) (map (fun e => velocity t start n e x) embedded) x)
  end.

(* scale number k with t tokens; r tokens at the scale before; s tokens before this one *)
Definition one_scale (k t s r : nat) (label : Z) (noise : tab) (seen : list (list (tab * tab) * list (tab * tab))) (before : tab)
    : tab * list (list (tab * tab) * list (tab * tab)) :=
  let drawn := map (fun h : (Z -> Z) * (list (tab * tab) * list (tab * tab)) =>
    let tokens_in := match k with O => first_tokens (fst h label) | _ => next_tokens k t r before end in
    transformer t s (fst h label) (snd h) tokens_in) (combine (halves m) seen) in
  let embedded := map (fun y => apply_linear a t width flow_width (condition m) (fst y)) drawn in
  (euler t s k 0 (steps_ m) embedded noise, map snd drawn).
Fixpoint scales (k s r : nat) (ts : list nat) (label : Z) (noise : tab) (seen : list (list (tab * tab) * list (tab * tab))) (before : tab) : tab :=
  match ts with
  | [] => before
  | t :: ts' =>
      let y := one_scale k t s r label (from s noise) seen before in
      scales (S k) (s + t) t ts' label noise (snd y) (fst y)
  end.

(* inputs: the label, then noise for every token of every scale, channel by channel; the result is the last map *)
Definition all_tokens := fold_right plus 0%nat (tokens m).
Definition inputs_ := S (all_tokens * channels m).
Definition flowar (u : list Z) : tab :=
  scales 0 0 0 (tokens m) (nth 0 u 0) (fun i j => nth (S (i * channels m + j)) u 0) (map (fun _ => ([], [])) (halves m)) zero.
End Model.
