(* What the theorems rest on. `make proofs` fails unless every answer is "Closed under the global context". *)
Require Import Threshold Addition Cells Tables Main Main_DiT Checker.
Print Assumptions bank_reads.
Print Assumptions add_numbers_runs.
Print Assumptions multiply_runs.
Print Assumptions add_numbers_weights.
Print Assumptions compare_runs.
Print Assumptions compare_weights.
Print Assumptions compile_correct.
Print Assumptions realise.
Print Assumptions flowar_main.
Print Assumptions dit_main.
Print Assumptions check_sound.
