(* Reads a model, inputs and outputs (tests/circuits/*_numbers.py write them), and runs the extracted `flowar` or `dit` on each. *)
open Model

let rec positive n = if n = 1 then XH else if n land 1 = 1 then XI (positive (n lsr 1)) else XO (positive (n lsr 1))
let z n = if n = 0 then Z0 else if n > 0 then Zpos (positive n) else Zneg (positive (-n))
let rec of_positive = function XH -> 1 | XO p -> 2 * of_positive p | XI p -> 2 * of_positive p + 1
let of_z = function Z0 -> 0 | Zpos p -> of_positive p | Zneg p -> - of_positive p
let rec nat n = if n = 0 then O else S (nat (n - 1))
let of_nat n = let rec go k = function O -> k | S m -> go (k + 1) m in go 0 n

let channel = Scanf.Scanning.open_in Sys.argv.(1)
let int () = Scanf.bscanf channel " %d" (fun n -> n)
let ints () = let n = int () in Array.init n (fun _ -> z (int ()))
let list read = let n = int () in List.init n (fun _ -> ()) |> List.map read
let vector () = let a = ints () in fun j -> a.(of_nat j)
let table () =
  let r = int () in let c = int () in let a = Array.init (r * c) (fun _ -> z (int ())) in
  fun i j -> a.(of_nat i * c + of_nat j)
let func () = let lo = int () in let a = ints () in fun x -> let k = of_z x - lo in if k < 0 || k >= Array.length a then Z0 else a.(k)
let linear () = let weight = table () in let bias = vector () in let own = z (int ()) in { weight; bias; own }
let rows () =  (* of a label; one beyond the last gives the last *)
  let r = int () in let c = int () in let a = Array.init (r * c) (fun _ -> z (int ())) in
  fun label j -> a.(min (of_z label) (r - 1) * c + of_nat j)
let layers () =
  let qkv = linear () in let proj = linear () in let gate = linear () in let value = linear () in let out_ = linear () in
  { qkv; proj; gate; value; out_ }

let arithmetic () =
  let p = z (int ()) in let f = z (int ()) in
  let exp = func () in let silu = func () in let gelu = func () in let reciprocal = func () in
  let roots = list (fun () -> let d = int () in (d, func ())) in
  { p; f; exp; silu; gelu; reciprocal; inverse_root = (fun d x -> (List.assoc (of_nat d) roots) x) }
let nat_ () = nat (int ())
let halves_ () = list (fun () -> let null = int () in if null < 0 then (fun l -> l) else (fun _ -> z null))

(* each gives rows, columns and the model as a function of its inputs *)
let flowar_ () =
  let a = arithmetic () in
  let tokens = list nat_ in let channels = nat_ () in let heads = nat_ () in let pairs_of = nat_ () in let hidden = nat_ () in
  let flow_heads = nat_ () in let flow_pairs = nat_ () in let flow_hidden = nat_ () in
  let halves = halves_ () in
  let class_embed = rows () in let input_ = linear () in let input_norm = vector () in
  let block () = let inside = layers () in let by_label = rows () in { inside; by_label } in
  let encoder_position = table () in let encoder = list block in let encoder_norm = vector () in
  let decoder_proj = linear () in let decoder_position = table () in let decoder = list block in let decoder_norm = vector () in
  let semantics_position = table () in
  let rotation = table () in let rotation_own = vector () in let flow_rotation = table () in let flow_rotation_own = vector () in
  let condition = linear () in let times = table () in let flow_input = linear () in
  let flow = list (fun () -> let flow_inside = layers () in let by_condition = linear () in { flow_inside; by_condition }) in
  let final = linear () in let output_ = linear () in
  let resamplings = Array.of_list (list (fun () -> let m = table () in let own = z (int ()) in (m, own))) in
  let steps_ = nat_ () in
  let coefficients = Array.of_list (list (fun () -> Array.of_list (list (fun () -> list (fun () -> z (int ())))))) in
  let model = {
    tokens; channels; heads; pairs_of; hidden; flow_heads; flow_pairs; flow_hidden; halves; class_embed; input_; input_norm;
    encoder_position; encoder; encoder_norm; decoder_proj; decoder_position; decoder; decoder_norm; semantics_position;
    rotation; rotation_own; flow_rotation; flow_rotation_own; condition; time = times; flow_input; flow; final; output_;
    resampling = (fun k -> fst resamplings.(of_nat k - 1)); resampling_own = (fun k -> snd resamplings.(of_nat k - 1));
    steps_; coefficients_ = (fun k n -> coefficients.(of_nat k).(of_nat n)) } in
  (of_nat (List.nth tokens (List.length tokens - 1)), of_nat channels, flowar a model)

(* the extraction puts 0 behind names that FlowAR has too *)
let dit_ () =
  let a = arithmetic () in
  let grid_rows = nat_ () in let grid_columns = nat_ () in let patch = nat_ () in let channels0 = nat_ () in
  let heads0 = nat_ () in let head_size = nat_ () in let hidden0 = nat_ () in
  let halves0 = halves_ () in let class_embed0 = rows () in let times = table () in
  let patch_embed = linear () in let position = table () in
  let hybrid_ = int () = 1 in
  let blocks = list (fun () ->
    let modulation = linear () in
    let mixer_of =
      if hybrid_ then
        let q = linear () in let k = linear () in let v = linear () in let g = linear () in let decay = linear () in let out = linear () in
        Hybrid (q, k, v, g, decay, out)
      else let qkv = linear () in let proj = linear () in Softmax (qkv, proj) in
    let fc1 = linear () in let fc2 = linear () in
    { modulation; mixer_of; fc1; fc2 }) in
  let final_modulation = linear () in let final0 = linear () in
  let steps = Array.of_list (list (fun () -> list (fun () -> z (int ())))) in
  let key_root = func () in let log_decay = func () in let decay_of = func () in
  let reach_up = z (int ()) in let reach_down = z (int ()) in let mean_factor = z (int ()) in let mean_shift = z (int ()) in
  let model = {
    grid_rows; grid_columns; patch; channels0; heads0; head_size; hidden0; halves0; class_embed0; time0 = times; patch_embed; position;
    blocks; final_modulation; final0; steps_0 = nat (Array.length steps); coefficients_0 = (fun n -> steps.(of_nat n));
    key_root; log_decay; decay_of; reach_up; reach_down; mean_factor; mean_shift } in
  (of_nat grid_rows * of_nat patch * of_nat grid_columns * of_nat patch, of_nat channels0, dit a model)

let () =
  let rows, columns, run = Scanf.bscanf channel " %s" (function
    | "flowgression-numbers-1" -> flowar_ ()
    | "flowgression-dit-numbers-1" -> dit_ ()
    | w -> failwith ("no numbers of a model: " ^ w)) in
  let samples = int () in
  let wrong = ref 0 and compared = ref 0 in
  for _ = 1 to samples do
    let input = Array.to_list (ints ()) in
    let wanted = ints () in
    let found = run input in
    if Array.length wanted <> rows * columns then failwith "outputs of another size";
    Array.iteri (fun k w -> incr compared; if found (nat (k / columns)) (nat (k mod columns)) <> w then incr wrong) wanted
  done;
  Printf.printf "%d numbers of %d inputs compared, %d differ\n" !compared samples !wrong;
  exit (if !wrong = 0 && !compared > 0 then 0 else 1)
