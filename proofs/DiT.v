(* SiT (arXiv 2401.08740) and ARFlow (arXiv 2501.16085) inference as a function on tables of p-bit numbers. *)
Require Import ZArith List.
Import ListNotations.
Require Import Cells Arithmetic.
Open Scope Z_scope.

(* How a block looks around: by attention over the image (SiT), or also into a state that the step before left (ARFlow).
   The state starts as zero, which adds nothing. *)
Inductive mixer :=
| Softmax (qkv proj : linear)
| Hybrid (queries keys values open_ decay out : linear).
Record block := Block { modulation : linear; mixer_of : mixer; fc1 : linear; fc2 : linear }.

Record model := Model {
  grid_rows : nat; grid_columns : nat; patch : nat; channels : nat;
  heads : nat; head_size : nat; hidden : nat;
  halves : list (Z -> Z);           (* of the label: itself, and with guidance the null label *)
  class_embed : Z -> nat -> Z; time : nat -> nat -> Z;
  patch_embed : linear; position : tab; blocks : list block; final_modulation : linear; final : linear;
  steps_ : nat;                     (* Euler steps *)
  coefficients_ : nat -> list Z;    (* of step and half: 256 times step size times share of guidance *)
  key_root : Z -> Z;                (* 1 / sqrt(d), also divided by sqrt(width of a head) *)
  log_decay : Z -> Z;               (* softplus(-x) / 16 *)
  decay_of : Z -> Z;                (* exp(-x) with p fraction bits *)
  reach_up : Z; reach_down : Z;     (* x 2^(up - down) is its argument *)
  mean_factor : Z; mean_shift : Z   (* 1 / tokens *)
}.

Section Model.
Variables (a : arithmetic) (m : model).
Definition width := (heads m * head_size m)%nat.
Definition tokens := (grid_rows m * grid_columns m)%nat.
Definition in_token := (patch m * patch m * channels m)%nat.
Definition pixels := (grid_rows m * patch m * (grid_columns m * patch m))%nat.

(* pixels row by row as tokens of patches, and back *)
Definition to_tokens (x : tab) : tab := fun i j =>
  let w := grid_columns m in let P := patch m in let c := channels m in
  x ((i / w * P + j / c / P) * (w * P) + (i mod w * P + j / c mod P))%nat (j mod c)%nat.
Definition to_pixels (x : tab) : tab := fun i j =>
  let w := grid_columns m in let P := patch m in let row := (i / (w * P))%nat in let col := (i mod (w * P))%nat in
  x (row / P * w + col / P)%nat ((row mod P * P + col mod P) * channels m + j)%nat.

(* gated hybrid linear attention: softmax inside the image, and what the state says, which every token fades a bit more *)
Definition hybrid (t h e : nat) (q_ k_ v_ open_ decay_ out_ : linear) (state cond x : tab) : tab * tab :=
  let d := (h * e)%nat in
  let q := norm_heads a (inverse_root a d) t d 1 d (apply_linear a t d d q_ x) in
  let k := norm_heads a (key_root m) t d 1 d (apply_linear a t d d k_ x) in
  let v := norm_heads a (inverse_root a d) t d 1 d (apply_linear a t d d v_ x) in
  let gate := apply_linear a t d h decay_ (add a t d x (fun _ j => cond 0%nat j)) in
  let logs := apply_wide a t h (log_decay m) gate in
  let fade := apply_wide a t h (fun z => decay_of m (narrow (p a) (reach_down m) (z * 2 ^ reach_up m))) (running t h logs) in
  let keep := apply_wide a 1 h (fun z => decay_of m (narrow (p a) (mean_shift m) (z * mean_factor m))) (overall t h logs) in
  let inner := attention a t t h e q k v in
  let mixed := blend a t d (fun i j => fade i (j / e)%nat) (read_state a t d e q state) inner in
  let next := blend a d e (fun r _ => keep 0%nat (r / e)%nat) state (outer a t d e k v) in
  let opened := apply a t d (silu a) (apply_linear a t d d open_ x) in
  (apply_linear a t d d out_ (multiply a t d (norm_heads a (inverse_root a e) t d h e mixed) opened), next).
Definition mix (t h e : nat) (l : mixer) (state cond x : tab) : tab * tab :=
  let d := (h * e)%nat in
  match l with
  | Softmax qkv proj =>
      let all := apply_linear a t d (3 * d) qkv x in
      (apply_linear a t d d proj (attention a t t h e all (columns d all) (columns (2 * d) all)), state)
  | Hybrid q k v o z out => hybrid t h e q k v o z out state cond x
  end.

(* x + gate1 mix(norm(x) scale1 + shift1), then the feed-forward layer alike; the state goes in and out *)
Definition run_block (t h e hid : nat) (b : block) (opened cond state x : tab) : tab * tab :=
  let d := (h * e)%nat in
  let row := apply_linear a 1 d (6 * d) (modulation b) opened in
  let all : tab := fun _ j => row 0%nat j in
  let inner := fused a t d (layer_norm a t d x) (columns d all) all in
  let r := mix t h e (mixer_of b) state cond inner in
  let x1 := fused a t d (columns (2 * d) all) (fst r) x in
  let inner2 := fused a t d (layer_norm a t d x1) (columns (4 * d) all) (columns (3 * d) all) in
  let y := apply_linear a t hid d (fc2 b) (apply a t hid (gelu a) (apply_linear a t d hid (fc1 b) inner2)) in
  (fused a t d (columns (5 * d) all) y x1, snd r).
Fixpoint run_blocks (bs : list block) (opened cond : tab) (states : list tab) (x : tab) : tab * list tab :=
  match bs with
  | [] => (x, [])
  | b :: bs' =>
      let r := run_block tokens (heads m) (head_size m) (hidden m) b opened cond (hd zero states) x in
      let r' := run_blocks bs' opened cond (tl states) (fst r) in
      (fst r', snd r :: snd r')
  end.

(* the velocity of tokens at step number n, and the states that it leaves *)
Definition velocity (n : nat) (label : Z) (states : list tab) (x : tab) : tab * list tab :=
  let cond := add_constant a 1 width (look_up a width (class_embed m) label) (fun _ j => time m n j) in
  let opened := apply a 1 width (silu a) cond in
  let x1 := add_constant a tokens width (apply_linear a tokens in_token width (patch_embed m) x) (position m) in
  let r := run_blocks (blocks m) opened cond states x1 in
  let row := apply_linear a 1 width (2 * width) (final_modulation m) opened in
  let both : tab := fun _ j => row 0%nat j in
  let y := fused a tokens width (layer_norm a tokens width (fst r)) (columns width both) both in
  (apply_linear a tokens width in_token (final m) y, snd r).
Fixpoint euler (n count : nat) (label : Z) (states : list (list tab)) (x : tab) : tab :=
  match count with
  | O => x
  | S count' =>
      let drawn := map (fun h : (Z -> Z) * list tab => velocity n (fst h label) (snd h) x) (combine (halves m) states) in
      euler (S n) count' label (map snd drawn) (move a tokens in_token (coefficients_ m n) (map fst drawn) x)
  end.

(* inputs: the label, then noise for every pixel, channel by channel; the result is the image *)
Definition inputs_ := S (pixels * channels m).
Definition dit (u : list Z) : tab :=
  to_pixels (euler 0 (steps_ m) (nth 0 u 0) (map (fun _ => []) (halves m))
    (to_tokens (fun i j => nth (S (i * channels m + j)) u 0))).
End Model.
