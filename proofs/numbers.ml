(* Reads a model, inputs and outputs (tests/circuits/numbers.py writes them), and runs the extracted `flowar` on each. *)
open Model

let rec positive n = if n = 1 then XH else if n land 1 = 1 then XI (positive (n lsr 1)) else XO (positive (n lsr 1))
let z n = if n = 0 then Z0 else if n > 0 then Zpos (positive n) else Zneg (positive (-n))
let rec of_positive = function XH -> 1 | XO p -> 2 * of_positive p | XI p -> 2 * of_positive p + 1
let of_z = function Z0 -> 0 | Zpos p -> of_positive p | Zneg p -> - of_positive p
let rec nat n = if n = 0 then O else S (nat (n - 1))
let of_nat n = let rec go k = function O -> k | S m -> go (k + 1) m in go 0 n

let channel = Scanf.Scanning.open_in Sys.argv.(1)
let int () = Scanf.bscanf channel " %d" (fun n -> n)
let expect name = Scanf.bscanf channel " %s" (fun w -> if w <> name then failwith ("expected " ^ name ^ ", found " ^ w))
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

let () =
  expect "flowgression-numbers-1";
  let p = z (int ()) in let f = z (int ()) in
  let exp = func () in let silu = func () in let gelu = func () in let reciprocal = func () in
  let roots = list (fun () -> let d = int () in (d, func ())) in
  let a = { p; f; exp; silu; gelu; reciprocal; inverse_root = (fun d x -> (List.assoc (of_nat d) roots) x) } in
  let nat_ () = nat (int ()) in
  let tokens = list nat_ in let channels = nat_ () in let heads = nat_ () in let pairs_of = nat_ () in let hidden = nat_ () in
  let flow_heads = nat_ () in let flow_pairs = nat_ () in let flow_hidden = nat_ () in
  let halves = list (fun () -> let null = int () in if null < 0 then (fun l -> l) else (fun _ -> z null)) in
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
  let samples = int () in
  let wrong = ref 0 and compared = ref 0 in
  let last = List.nth tokens (List.length tokens - 1) in
  for _ = 1 to samples do
    let input = Array.to_list (ints ()) in
    let wanted = ints () in
    let found = flowar a model input in
    let c = of_nat channels in
    if Array.length wanted <> of_nat last * c then failwith "outputs of another size";
    Array.iteri (fun k w -> incr compared; if found (nat (k / c)) (nat (k mod c)) <> w then incr wrong) wanted
  done;
  Printf.printf "%d numbers of %d inputs compared, %d differ\n" !compared samples !wrong;
  exit (if !wrong = 0 && !compared > 0 then 0 else 1)
