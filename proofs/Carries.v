(* The last step of an addition: at most two bits per column, carries looked ahead; then the whole sum. *)
Require Import ZArith List Lia Bool FMapPositive.
Import ListNotations.
Require Import Claims Polynomials Cases Sums.
Open Scope Z_scope.

(* (p, g) of a column: whether its sum is at least 1, and at least 2 *)
Definition pair := (form * form)%type.
Definition nodes_of (c : list form) : row := flat_map snd c.
Definition excluded_bit (bits_ : list form) (m : assignment) (f : form) : bool :=
  negb (is_bit (form_now m f)) && existsb (fun g => if form_dec f g then true else false) bits_.
Definition pair_case (gm : Map.t gate) (bits_ : list form) (c : list form) (pg : pair) (m : assignment) : verdict * assignment :=
  match ask (nodes_of c) m with
  | Some n => (Ask n, m)
  | None =>
      if existsb (excluded_bit bits_ m) c then (Shown, m) else
      match forms_known gm [fst pg; snd pg] m with
      | (Some [p; g], m') => (if is_bit p && is_bit g && (g <=? p) && (p + g =? add_up (map (form_now m) c)) then Shown else Lost, m')
      | (_, m') => (Lost, m')
      end
  end.
Definition check_pair (gm : Map.t gate) (bits_ : list form) (c : list form) (pg : pair) : bool :=
  by_cases most_cases (pair_case gm bits_ c pg) (Map.empty bool).
Fixpoint check_pairs (gm : Map.t gate) (bits_ : list form) (cs : list (list form)) (pgs : list pair) : bool :=
  match cs, pgs with [], [] => true | c :: cs', pg :: pgs' => check_pair gm bits_ c pg && check_pairs gm bits_ cs' pgs' | _, _ => false end.

(* the carry into a column, from the columns below it, the nearest first *)
Fixpoint carry (e : node -> bool) (pgs : list pair) : Z :=
  match pgs with
  | [] => 0
  | (p, g) :: pgs' => if form_value e g =? 1 then 1 else if form_value e p =? 1 then carry e pgs' else 0
  end.
Inductive carried := Is (c : Z) | Needs (n : node) | Never.
Fixpoint carry_now (pgs : list pair) (m : assignment) : carried :=
  match pgs with
  | [] => Is 0
  | (p, g) :: pgs' =>
      match ask (snd p ++ snd g) m with
      | Some n => Needs n
      | None => if form_now m g =? 1 then (if form_now m p =? 1 then Is 1 else Never)
                else if form_now m p =? 1 then carry_now pgs' m else Is 0
      end
  end.
Definition carry_case (gm : Map.t gate) (pgs : list pair) (c : form) (m : assignment) : verdict * assignment :=
  match carry_now pgs m with
  | Needs n => (Ask n, m)
  | Never => (Shown, m)
  | Is k => let '(lo, hi, m') := form_range gm c m in (if (lo =? k) && (hi =? k) then Shown else Lost, m')
  end.
(* the bit r is x, of which it is known that it is 0 or 1 *)
Definition is_form (gm : Map.t gate) (x r : form) : bool :=
  let cx := canonical (of_row (snd x)) in
  (fst x =? fst r) && (if polynomial_dec cx (canonical (of_row (snd r))) then true else false) ||
  match r with
  | (0, [(n, 1)]) =>
      match Map.find n gm with
      | Some g => (theta g =? 1 - fst x) && (if polynomial_dec (canonical (of_row (reads g))) cx then true else false)
      | None => false
      end
  | _ => false
  end.
(* or it is that in every case: gates of other weights may be equal to the builder's *)
Definition sum_case (looking : Map.t gate) (p g : form) (below : list pair) (r : form) (m : assignment) : verdict * assignment :=
  match ask (snd p ++ snd g) m with
  | Some n => (Ask n, m)
  | None =>
      if form_now m p <? form_now m g then (Shown, m) else
      match carry_now below m with
      | Needs n => (Ask n, m)
      | Never => (Shown, m)
      | Is k =>
          let v := form_now m p + form_now m g + k in let s := if 2 <=? v then v - 2 else v in
          let '(lo, hi, m') := form_range looking r m in (if (lo =? s) && (hi =? s) then Shown else Lost, m')
      end
  end.
(* columns from low to high, with the carry into the first and whether it is shown, the pairs below it, and the carries and bits
   from there on *)
Fixpoint check_rows (gm looking : Map.t gate) (pgs : list pair) (below : list pair) (known : bool) (c : form) (carries rs : list form) : bool :=
  match pgs, carries, rs with
  | [], [], [] => true
  | (p, g) :: pgs', c' :: carries', r :: rs' =>
      let known' := by_cases most_cases (carry_case looking ((p, g) :: below) c') (Map.empty bool) in
      (known && known' && is_form gm (add_forms (add_forms p g) (add_forms c (scale_form (-2) c'))) r ||
       by_cases most_cases (sum_case looking p g below r) (Map.empty bool)) &&
      check_rows gm looking pgs' ((p, g) :: below) known' c' carries' rs'
  | _, _, _ => false
  end.

(* what is said of a sum: columns, stages of counting, the last two rows, their carries, and the bits *)
Record adding := Adding { columns : list (list form); stages : list (list part); pairs : list pair; carries : list form; sum_bits : list form }.
(* a node as a polynomial of the cell's inputs *)
Definition node_polynomial (gm : Map.t gate) (inputs : positive) (n : node) : polynomial :=
  match Map.find n gm with
  | Some g => if Nat.leb (length (reads g)) 4 && forallb (fun t : node * Z => Pos.ltb (fst t) inputs) (reads g) then indicator (reads g) (theta g) else [([n], 1)]
  | None => [([n], 1)]
  end.
Definition form_polynomial (gm : Map.t gate) (inputs : positive) (f : form) : polynomial :=
  ([], fst f) :: flat_map (fun t : node * Z => scale (snd t) (node_polynomial gm inputs (fst t))) (snd f).
Fixpoint columns_polynomial (gm : Map.t gate) (inputs : positive) (w : Z) (cs : list (list form)) : polynomial :=
  match cs with [] => [] | c :: cs' => scale w (flat_map (form_polynomial gm inputs) c) ++ columns_polynomial gm inputs (2 * w) cs' end.
(* sum_bits is the polynomial, modulo 2 to their number *)
Definition check_sum (gm : Map.t gate) (inputs : positive) (bits_ : list form) (a : adding) (wanted : polynomial) : bool :=
  vanishes (modulus (columns a)) (columns_polynomial gm inputs 1 (columns a) ++ scale (-1) wanted) &&
  match check_stages gm bits_ (stages a) (columns a) with
  | Some cs => check_pairs gm bits_ cs (pairs a) &&
               check_rows gm (above (highest_node (flat_map (fun pg => [fst pg; snd pg]) (pairs a))) gm) (pairs a) [] true (0, []) (carries a) (sum_bits a)
  | None => false
  end.

Section Carries.
Variables (e : node -> bool) (gm : Map.t gate) (bits_ : list form).
Hypothesis X : explains e gm.
Hypothesis B : forall f, In f bits_ -> is_bit (form_value e f) = true.

Lemma ask_app r s m : ask (r ++ s) m = None -> ask r m = None /\ ask s m = None.
Proof. induction r as [|[n w] r I]; cbn [app ask]; auto. destruct (Map.find n m); [auto|discriminate]. Qed.
Lemma ask_nodes m c : agrees e m -> ask (nodes_of c) m = None -> forall f, In f c -> form_now m f = form_value e f.
Proof.
  intros A. unfold nodes_of. induction c as [|f c I]; cbn [flat_map]; intros H g; [intros []|intros [|G]].
  - subst. apply ask_app in H as [H _]. apply form_now_sound; auto.
  - apply ask_app in H as [_ H]. apply I; auto.
Qed.
Definition pair_holds (s : Z) (pg : pair) : Prop :=
  is_bit (form_value e (fst pg)) = true /\ is_bit (form_value e (snd pg)) = true /\ form_value e (snd pg) <= form_value e (fst pg) /\
  form_value e (fst pg) + form_value e (snd pg) = s.
Lemma column_value_add c : column_value e c = add_up (map (form_value e) c).
Proof. induction c as [|f c I]; cbn; auto. rewrite I. auto. Qed.
Lemma check_pair_sound c pg : check_pair gm bits_ c pg = true -> pair_holds (column_value e c) pg.
Proof.
  unfold check_pair. apply (all_cases e). intros m v m' H A. unfold pair_case in H.
  destruct (ask (nodes_of c) m) as [n|] eqn:Q; [injection H as <- <-; split; auto; discriminate|].
  pose proof (ask_nodes m c A Q) as N. destruct (existsb (excluded_bit bits_ m) c) eqn:E.
  { exfalso. apply existsb_exists in E as (f & F & E). unfold excluded_bit in E. apply andb_prop in E as [E1 E2].
    apply existsb_exists in E2 as (g & G & E2). destruct (form_dec f g) as [->|]; [|discriminate]. rewrite (N _ F), (B _ G) in E1. discriminate. }
  destruct (forms_known gm [fst pg; snd pg] m) as [l m1] eqn:K. destruct (forms_known_sound e gm X _ _ _ _ K A) as [A1 V].
  destruct l as [[|p [|g [|]]]|]; injection H as <- <-; split; auto; try discriminate.
  specialize (V _ eq_refl). cbn [map] in V. injection V as V1 V2. intros S. unfold pair_holds. rewrite V1, V2, column_value_add.
  rewrite <- (map_ext_in _ _ c (fun f F => N f F)).
  destruct (is_bit p && is_bit g && (g <=? p) && (p + g =? add_up (map (form_now m) c))) eqn:T; [|discriminate].
  apply andb_prop in T as [T T4]. apply andb_prop in T as [T T3]. apply andb_prop in T as [T1 T2]. apply Z.eqb_eq in T4. apply Z.leb_le in T3. auto.
Qed.
Fixpoint pairs_value (pgs : list pair) : Z :=
  match pgs with [] => 0 | (p, g) :: pgs' => form_value e p + form_value e g + 2 * pairs_value pgs' end.
Definition proper_pair (pg : pair) : Prop := pair_holds (form_value e (fst pg) + form_value e (snd pg)) pg.
Lemma check_pairs_sound cs : forall pgs, check_pairs gm bits_ cs pgs = true ->
  columns_value e cs = pairs_value pgs /\ length cs = length pgs /\ Forall proper_pair pgs.
Proof.
  induction cs as [|c cs I]; intros [|[p g] pgs] H; cbn [check_pairs] in H; try discriminate; [repeat split; auto|].
  apply andb_prop in H as [H1 H2]. destruct (I _ H2) as (V & L & F). apply check_pair_sound in H1.
  pose proof H1 as (P1 & P2 & P3 & P4). cbn [fst snd] in *. cbn [columns_value pairs_value length]. repeat split; try lia.
  constructor; auto. unfold proper_pair. cbn [fst snd]. rewrite P4. exact H1.
Qed.
Lemma carry_bit pgs : 0 <= carry e pgs <= 1.
Proof. induction pgs as [|[p g] pgs I]; cbn [carry]; [lia|]. destruct (_ =? 1); [lia|]. destruct (_ =? 1); lia. Qed.
Lemma carry_now_sound m pgs : agrees e m -> Forall proper_pair pgs ->
  match carry_now pgs m with Is c => carry e pgs = c | Needs _ => True | Never => False end.
Proof.
  intros A F. induction F as [|[p g] pgs P F I]; cbn [carry_now carry]; auto.
  destruct (ask (snd p ++ snd g) m) as [n|] eqn:Q; auto. apply ask_app in Q as [Q1 Q2].
  rewrite (form_now_sound e m p A Q1), (form_now_sound e m g A Q2). destruct P as (P1 & P2 & P3 & _). cbn [fst snd] in *.
  apply is_bit_range in P1, P2. destruct (Z.eqb_spec (form_value e g) 1).
  - destruct (Z.eqb_spec (form_value e p) 1); auto. lia.
  - destruct (Z.eqb_spec (form_value e p) 1); auto.
Qed.
Lemma check_carry_sound looking pgs c : explains e looking -> Forall proper_pair pgs ->
  by_cases most_cases (carry_case looking pgs c) (Map.empty bool) = true -> form_value e c = carry e pgs.
Proof.
  intros Xl F. apply (all_cases e). intros m v m' H A. unfold carry_case in H.
  pose proof (carry_now_sound m pgs A F) as C. destruct (carry_now pgs m) as [k|n|].
  - destruct (form_range looking c m) as [[lo hi] m1] eqn:R. destruct (form_range_sound e looking _ _ _ _ _ Xl R A) as [A1 V]. injection H as <- <-.
    split; auto. rewrite C. destruct (Z.eqb_spec lo k), (Z.eqb_spec hi k); cbn; try discriminate. intros _. lia.
  - injection H as <- <-. split; auto. discriminate.
  - destruct C.
Qed.
Lemma is_form_sound x r : is_form gm x r = true -> 0 <= form_value e x <= 1 -> form_value e r = form_value e x.
Proof.
  intros H R. unfold is_form in H. apply orb_prop in H as [H|H].
  - apply andb_prop in H as [H1 H2]. apply Z.eqb_eq in H1. destruct (polynomial_dec _ _) as [E|]; [|discriminate].
    unfold form_value. rewrite H1. f_equal. apply (same_polynomial e) in E. rewrite !amount_row in E. auto.
  - destruct r as [[| |] [|[n [|[| |]|]] [|]]]; try discriminate. destruct (Map.find n gm) as [g|] eqn:F; [|discriminate].
    apply andb_prop in H as [H1 H2]. apply Z.eqb_eq in H1. destruct (polynomial_dec _ _) as [E|]; [|discriminate].
    apply (same_polynomial e) in E. rewrite !amount_row in E. pose proof (X n g F) as Q. unfold fires in Q. rewrite E, H1 in Q.
    unfold form_value at 1. cbn [fst snd weighted]. rewrite Q. unfold form_value in *. destruct (Z.leb_spec (1 - fst x) (weighted e (snd x))); lia.
Qed.
Lemma sum_case_sound looking p g below r : explains e looking -> proper_pair (p, g) -> Forall proper_pair below ->
  by_cases most_cases (sum_case looking p g below r) (Map.empty bool) = true ->
  form_value e r = form_value e p + form_value e g + (carry e below + -2 * carry e ((p, g) :: below)).
Proof.
  intros Xl P F. apply (all_cases e). intros m v m' H A. unfold sum_case in H. pose proof (carry_now_sound m below A F) as C.
  destruct (ask (snd p ++ snd g) m) as [n|] eqn:Q; [injection H as <- <-; split; auto; discriminate|]. apply ask_app in Q as [Q1 Q2].
  rewrite (form_now_sound e m p A Q1), (form_now_sound e m g A Q2) in H.
  destruct (Z.ltb_spec (form_value e p) (form_value e g)) as [N|_]; [destruct P as (_ & _ & P3 & _); cbn [fst snd] in P3; lia|].
  destruct (carry_now below m) as [k|n|]; [|injection H as <- <-; split; auto; discriminate|destruct C].
  destruct (form_range looking r m) as [[lo hi] m1] eqn:R. destruct (form_range_sound e looking _ _ _ _ _ Xl R A) as [A1 V]. injection H as <- <-.
  split; auto. pose proof (carry_bit below) as CB. destruct P as (P1 & P2 & P3 & _). cbn [fst snd] in *. apply is_bit_range in P1, P2.
  cbn [carry]. rewrite C in *. intros S.
  destruct (Z.leb_spec 2 (form_value e p + form_value e g + k)); destruct (Z.eqb_spec lo (form_value e p + form_value e g + k - 2)), (Z.eqb_spec hi (form_value e p + form_value e g + k - 2)),
    (Z.eqb_spec lo (form_value e p + form_value e g + k)), (Z.eqb_spec hi (form_value e p + form_value e g + k)); cbn in S; try discriminate;
    destruct (Z.eqb_spec (form_value e g) 1); destruct (Z.eqb_spec (form_value e p) 1); lia.
Qed.
Lemma check_rows_sound looking pgs : explains e looking -> forall below known c carries_ rs, check_rows gm looking pgs below known c carries_ rs = true ->
  Forall proper_pair pgs -> Forall proper_pair below -> (known = true -> form_value e c = carry e below) ->
  length rs = length pgs /\ Forall (fun r => is_bit (form_value e r) = true) rs /\
  same_mod (modulus rs) (pairs_value pgs + carry e below) (from_bits (map (form_value e) rs)).
Proof.
  intros Xl. unfold modulus. induction pgs as [|[p g] pgs I]; intros below known c [|c' carries_] [|r rs] H F G C; cbn [check_rows] in H; try discriminate.
  - split; auto. split; auto. exists (carry e below). cbn [pairs_value map from_bits length]. change (2 ^ Z.of_nat 0) with 1. lia.
  - cbv zeta in H. apply andb_prop in H as [H2 H3]. inversion F as [|? ? P F']; subst.
    assert (G' : Forall proper_pair ((p, g) :: below)) by (constructor; auto).
    assert (H1 := check_carry_sound looking ((p, g) :: below) c' Xl G'). destruct (I _ _ _ _ _ H3 F' G' H1) as (L & T & [k K]).
    assert (R : 0 <= form_value e p + form_value e g + (carry e below + -2 * carry e ((p, g) :: below)) <= 1 ->
      form_value e r = form_value e p + form_value e g + (carry e below + -2 * carry e ((p, g) :: below))).
    { apply orb_prop in H2 as [H2|H2]; [|intros _; apply (sum_case_sound looking); auto].
      apply andb_prop in H2 as [H2 H4]. apply andb_prop in H2 as [H2 H5].
      pose proof (is_form_sound _ _ H4) as R. rewrite !add_forms_value, scale_form_value, (C H2), (H1 H5) in R. exact R. }
    destruct P as (P1 & P2 & P3 & _). cbn [fst snd] in *. apply is_bit_range in P1, P2. pose proof (carry_bit below) as CB.
    assert (S : 0 <= form_value e p + form_value e g + (carry e below + -2 * carry e ((p, g) :: below)) <= 1).
    { cbn [carry]. destruct (Z.eqb_spec (form_value e g) 1); [lia|]. destruct (Z.eqb_spec (form_value e p) 1); lia. }
    specialize (R S). split; [cbn [length]; lia|]. split.
    + constructor; auto. rewrite R. unfold is_bit. apply orb_true_iff. rewrite !Z.eqb_eq. lia.
    + exists k. cbn [pairs_value map from_bits length]. rewrite pow_S, R. lia.
Qed.
Lemma node_polynomial_sound inputs_ n : amount e (node_polynomial gm inputs_ n) = if e n then 1 else 0.
Proof.
  unfold node_polynomial. assert (O : amount e [([n], 1)] = if e n then 1 else 0) by (cbn; rewrite andb_true_r; destruct (e n); auto).
  destruct (Map.find n gm) as [g|] eqn:F; auto. destruct (_ && _); auto. rewrite amount_indicator, (X n g F). auto.
Qed.
Lemma form_polynomial_sound inputs_ f : amount e (form_polynomial gm inputs_ f) = form_value e f.
Proof.
  unfold form_polynomial, form_value. cbn [amount all_on forallb]. f_equal. induction (snd f) as [|[n w] r I]; cbn [flat_map weighted fst snd]; auto.
  rewrite amount_app, amount_scale, node_polynomial_sound, I. destruct (e n); lia.
Qed.
Lemma columns_polynomial_sound inputs_ cs : forall w, amount e (columns_polynomial gm inputs_ w cs) = w * columns_value e cs.
Proof.
  induction cs as [|c cs I]; intros w; cbn [columns_polynomial columns_value amount]; [lia|]. rewrite amount_app, amount_scale, I.
  assert (E : amount e (flat_map (form_polynomial gm inputs_) c) = column_value e c); [|lia].
  induction c as [|f c J]; cbn [flat_map column_value]; auto. rewrite amount_app, form_polynomial_sound, J. auto.
Qed.
Theorem check_sum_sound inputs_ a wanted : check_sum gm inputs_ bits_ a wanted = true ->
  Forall (fun r => is_bit (form_value e r) = true) (sum_bits a) /\
  same_mod (modulus (sum_bits a)) (amount e wanted) (from_bits (map (form_value e) (sum_bits a))).
Proof.
  unfold check_sum. intros H. apply andb_prop in H as [H1 H2]. destruct (check_stages gm bits_ (stages a) (columns a)) as [cs|] eqn:S; [|discriminate].
  apply andb_prop in H2 as [H2 H3]. destruct (check_stages_sound e gm bits_ X B _ _ _ S) as [M L].
  destruct (check_pairs_sound _ _ H2) as (V & L2 & F). destruct (check_rows_sound _ _ (above_sound e _ gm X) _ _ _ _ _ H3 F) as (L3 & T & N); auto.
  split; auto. unfold modulus in *. rewrite L3, <- L2, L in *.
  destruct (vanishes_sound e (2 ^ Z.of_nat (length (columns a))) _ ltac:(apply Z.pow_pos_nonneg; lia) H1) as [k K].
  rewrite amount_app, amount_scale, columns_polynomial_sound in K.
  assert (same_mod (2 ^ Z.of_nat (length (columns a))) (amount e wanted) (columns_value e (columns a))) as W by (exists (- k); lia).
  eapply same_mod_trans; [exact W|]. eapply same_mod_trans; [exact M|]. rewrite V. cbn [carry] in N. rewrite Z.add_0_r in N. exact N.
Qed.
End Carries.
