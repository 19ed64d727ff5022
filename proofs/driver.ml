(* Reads a proof as text (docs/proofs.md) and asks the extracted, verified `check`. Exit status 0: proved; 1: not proved;
   2: no such text; 3: a cell has more input bits than can be gone through. *)
open Checked

exception Bad of string
let most_bits = 20

(* ---- OCaml integers as Coq's; every number of the format is below 2^62 in absolute value ---- *)
let rec positive n = if n = 1 then XH else if n land 1 = 1 then XI (positive (n lsr 1)) else XO (positive (n lsr 1))
let positive n = if n >= 1 then positive n else raise (Bad "a number that must be at least 1")
let z n = if n = 0 then Z0 else if n > 0 then Zpos (positive n) else Zneg (positive (-n))
let rec int_of = function XH -> 1 | XO p -> 2 * int_of p | XI p -> 2 * int_of p + 1

(* ---- words ---- *)
let words = Queue.create ()
let word () = try Queue.pop words with Queue.Empty -> raise (Bad "the text ends too early")
let int () = let w = word () in match int_of_string_opt w with
  | Some n when n > min_int / 2 && n <= max_int / 2 * 2 && String.length w < 20 -> n
  | _ -> raise (Bad ("expected an integer, found " ^ w))
let count () = let n = int () in if n < 0 then raise (Bad "a negative count") else n
let expect name = let w = word () in if w <> name then raise (Bad ("expected " ^ name ^ ", found " ^ w))
let many n read = let rec go k acc = if k = 0 then List.rev acc else let x = read () in go (k - 1) (x :: acc) in go n []
let list read = let n = count () in many n read
let flag () = match int () with 0 -> false | 1 -> true | _ -> raise (Bad "expected 0 or 1")
let node () = positive (int ())
let integer () = z (int ())
let row () = list (fun () -> let n = node () in let w = integer () in (n, w))
let bank () = let thetas = list integer in let sum_of = row () in { sum_of; thetas }
let form () = let constant = integer () in let terms = row () in (constant, terms)
let forms () = list form
let port () = let signed = flag () in let nodes = list node in { nodes; signed }
let bit () = let place = integer () in let constant = integer () in let terms = row () in { place; constant; terms }
let number () = let lo = integer () in let hi = integer () in let hot = flag () in let bits = list bit in { bits; lo; hi; hot }
let width () = match int () with 0 -> None | w -> Some (z w)
let operation () = match word () with
  | "dot" -> let b = integer () in let s = integer () in let w = width () in Dot (b, s, w)
  | "fused" -> let s = integer () in let w = width () in Fused (s, w)
  | "mix" -> let s = integer () in let w = width () in let c = list integer in Mix (c, s, w)
  | "total" -> Total (integer ())
  | "square_sum" -> let p = integer () in let s = integer () in let w = width () in SquareSum (p, s, w)
  | "centred_square_sum" -> CentredSquareSum
  | "ceiling" -> Ceiling (integer ())
  | "at_least_one" -> AtLeastOne
  | "apply" -> let lo = integer () in let t = list integer in Apply (lo, t)
  | "inverse" -> let b = integer () in let r = integer () in let lo = integer () in let t = list integer in Inverse (lo, t, b, r)
  | "rescale" -> let s = integer () in let w = width () in Rescale (s, w)
  | "one_hot" -> OneHot (integer ())
  | "select" -> Select
  | w -> raise (Bad ("no operation is called " ^ w))
let step () = match word () with
  | "constant" -> Constant (integer ())
  | "apply_to" -> let o = operation () in let a = list (fun () -> list node) in Application (o, a)
  | w -> raise (Bad ("expected constant or apply_to, found " ^ w))
let rec nat n = if n = 0 then O else S (nat (n - 1))
let small () = let n = count () in if n > 4096 then raise (Bad "a column beyond 4096") else nat n
let hint () = match word () with
  | "enumerated" -> Enumerated
  | "added" ->
      let columns = list forms in
      let stages = list (fun () -> list (fun () -> let start = small () in let span = small () in let digits = forms () in { start; span; digits })) in
      let pairs = list (fun () -> let p = form () in let g = form () in (p, g)) in
      let carries = forms () in
      let sum_bits = forms () in
      Added { columns; stages; pairs; carries; sum_bits }
  | "read" -> Read
  | "larger" -> Larger
  | "scaled" -> Scaled (forms ())
  | "chosen" -> Chosen
  | w -> raise (Bad ("no rule is called " ^ w))
let cell () =
  let inputs = positive (count () + 1) in
  let op = operation () in
  let arguments_of = list (fun () -> list number) in
  let results_of = list number in
  let banks_of = list bank in
  let how = hint () in
  { inputs; banks_of; op; arguments_of; results_of; how }
let call () = let step_of = node () in let cell_of = node () in let renaming = list node in { step_of; cell_of; renaming }

let section name read = expect name; list read
let read_words file =
  let channel = open_in file in
  (try while true do
    let line = input_line channel in
    let line = match String.index_opt line '#' with Some k -> String.sub line 0 k | None -> line in
    List.iter (fun w -> if w <> "" then Queue.add w words) (String.split_on_char ' ' (String.trim line))
  done with End_of_file -> close_in channel)

let () =
  if Array.length Sys.argv <> 2 then (prerr_endline "usage: checker PROOF.txt"; exit 2);
  try
    read_words Sys.argv.(1);
    expect "flowgression-plain-2";
    let in_ports = section "inputs" port in
    let steps = section "model" step in
    let named = section "outputs" (fun () -> let value = node () in let q = port () in (value, q)) in
    let cells = section "cells" cell in
    let calls = section "calls" call in
    expect "banks";
    let first_gate = node () in
    let banks = list bank in
    if not (Queue.is_empty words) then raise (Bad "words after the end");
    let claim = { banks; in_ports; out_ports = List.map snd named; first_gate; steps; outputs = List.map fst named } in
    let widest = List.fold_left (fun m c -> if c.how = Enumerated then max m (int_of c.inputs - 1) else m) 0 cells in
    if widest > most_bits then begin
      Printf.printf "UNDECIDED: a cell that is to be enumerated has %d input bits, more than %d\n" widest most_bits; exit 3
    end;
    let start = Sys.time () in
    if check claim { cells; calls } then
      Printf.printf "PROVED for every input: %d gates, %d cells in %d calls, %d steps of the model (%.1f s)\n"
        (List.fold_left (fun n b -> n + List.length b.thetas) 0 banks) (List.length cells) (List.length calls) (List.length steps) (Sys.time () -. start)
    else begin
      (* where, as far as that is easily said *)
      List.iteri (fun k c -> if not (check_cell c) then Printf.printf "cell %d is not right\n" (k + 1)) cells;
      print_endline "NOT PROVED"; exit 1
    end
  with Bad what -> Printf.eprintf "not a proof: %s\n" what; exit 2
     | Sys_error what -> Printf.eprintf "%s\n" what; exit 2
