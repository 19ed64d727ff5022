(* Sums, products and squares as polynomials of a cell's inputs, with the interval in which they lie. *)
Require Import ZArith List Lia Bool FMapPositive.
Import ListNotations.
Require Import Claims Polynomials Cases Sums.
Open Scope Z_scope.

Record exact := Exact { poly : polynomial; least : Z; largest : Z }.
Definition number_dec (x y : number) : {x = y} + {x <> y}.
Proof. repeat decide equality. Defined.
Definition number_polynomial (x : number) : polynomial :=
  flat_map (fun t => ([], place t * constant t) :: scale (place t) (of_row (terms t))) (bits x).
Definition of_constant (c : Z) : exact := Exact [([], c)] c c.
Definition of_number (x : number) : exact := Exact (number_polynomial x) (lo x) (hi x).
Definition plus (x y : exact) : exact := Exact (poly x ++ poly y) (least x + least y) (largest x + largest y).
Definition times (c : Z) (x : exact) : exact := Exact (scale c (poly x)) (Z.min (c * least x) (c * largest x)) (Z.max (c * least x) (c * largest x)).
Definition min4 a b c d := Z.min (Z.min a b) (Z.min c d).
Definition max4 a b c d := Z.max (Z.max a b) (Z.max c d).
Definition product (x y : number) : exact :=
  let p := multiply (number_polynomial x) (number_polynomial y) in
  if number_dec x y
  then Exact p (if (lo x <=? 0) && (0 <=? hi x) then 0 else Z.min (lo x * lo x) (hi x * hi x)) (Z.max (lo x * lo x) (hi x * hi x))
  else Exact p (min4 (lo x * lo y) (lo x * hi y) (hi x * lo y) (hi x * hi y)) (max4 (lo x * lo y) (lo x * hi y) (hi x * lo y) (hi x * hi y)).
Definition sum_up (l : list exact) : exact := fold_right plus (of_constant 0) l.

Section Exact.
Variable e : node -> bool.
Definition is_exact (x : exact) (v : Z) : Prop := amount e (poly x) = v /\ least x <= v <= largest x.
Definition in_range (x : number) : Prop := lo x <= value e x <= hi x.

Lemma number_polynomial_value x : amount e (number_polynomial x) = value e x.
Proof.
  unfold number_polynomial, value, add_up. induction (bits x) as [|t ts I]; cbn [flat_map map fold_right]; auto.
  rewrite amount_app, I. cbn [amount all_on forallb]. rewrite amount_scale, amount_row. unfold bit_value. lia.
Qed.
Lemma constant_exact c : is_exact (of_constant c) c.
Proof. unfold is_exact. cbn. lia. Qed.
Lemma number_exact x : in_range x -> is_exact (of_number x) (value e x).
Proof. unfold is_exact, in_range. cbn. rewrite number_polynomial_value. auto. Qed.
Lemma plus_exact x y v w : is_exact x v -> is_exact y w -> is_exact (plus x y) (v + w).
Proof. unfold is_exact. intros [<- A] [<- B]. cbn. rewrite amount_app. split; auto. lia. Qed.
Lemma times_exact c x v : is_exact x v -> is_exact (times c x) (c * v).
Proof.
  unfold is_exact. intros [<- A]. cbn [times poly least largest]. rewrite amount_scale. split; auto.
  destruct (Z.le_gt_cases 0 c); [rewrite Z.min_l, Z.max_r by nia|rewrite Z.min_r, Z.max_l by nia]; nia.
Qed.
Lemma one_side x a b y : a <= y <= b -> Z.min (x * a) (x * b) <= x * y <= Z.max (x * a) (x * b).
Proof. intros. destruct (Z.le_gt_cases 0 x); [rewrite Z.min_l, Z.max_r by nia|rewrite Z.min_r, Z.max_l by nia]; nia. Qed.
Lemma product_exact x y : in_range x -> in_range y -> is_exact (product x y) (value e x * value e y).
Proof.
  unfold is_exact, in_range, product. intros A B. destruct (number_dec x y) as [<-|]; cbn [poly least largest]; rewrite amount_multiply, !number_polynomial_value; split; auto.
  - clear B. set (v := value e x) in *. generalize dependent (lo x). generalize dependent (hi x). intros b a A.
    assert (v * v <= Z.max (a * a) (b * b)).
    { destruct (Z.le_gt_cases 0 v); [assert (v * v <= b * b) by nia|assert (v * v <= a * a) by nia]; lia. }
    split; auto. destruct (Z.leb_spec a 0), (Z.leb_spec 0 b); cbn [andb]; [nia| | |nia].
    + assert (b * b <= v * v) by nia. lia.
    + assert (a * a <= v * v) by nia. lia.
  - set (v := value e x) in *. set (w := value e y) in *. unfold min4, max4.
    pose proof (one_side v _ _ _ B). pose proof (one_side (lo y) _ _ _ A). pose proof (one_side (hi y) _ _ _ A). lia.
Qed.
Lemma sum_up_exact l vs : Forall2 is_exact l vs -> is_exact (sum_up l) (add_up vs).
Proof. intros F. induction F; cbn [sum_up add_up fold_right]; [apply constant_exact|apply plus_exact; auto]. Qed.
End Exact.

(* ---- the operations that are sums: what is to be shifted, the shift, and the width of the result ---- *)
Definition products_of (xs ys : list number) : list exact := map (fun t : number * number => product (fst t) (snd t)) (combine xs ys).
Definition magnitude (x : number) : Z := Z.max (Z.abs (lo x)) (Z.abs (hi x)).
Definition centred (xs : list number) (t : number) : exact :=
  let d := Z.of_nat (length xs) in
  Exact (scale (d * d) (poly (sum_up (products_of xs xs))) ++ scale (- d) (poly (product t t)) ++ [([], 1)])
    1 (1 + d * d * add_up (map (fun x => magnitude x * magnitude x) xs)).
Definition as_sum (o : operation) (a : list (list number)) : option (exact * Z * option Z) :=
  match o, a with
  | Dot bs s w, x :: y :: b =>
      Some (plus (plus (sum_up (products_of x y)) (times (2 ^ bs) (sum_up (map (fun r => sum_up (map of_number r)) b)))) (of_constant (half s)), s, w)
  | Fused s w, [[x]; [y]; [z]] => Some (plus (plus (product x y) (times (2 ^ s) (of_number z))) (of_constant (half s)), s, w)
  | Mix c s w, xs =>
      Some (plus (sum_up (map (fun t : Z * number => times (fst t) (of_number (snd t))) (combine c (concat xs)))) (of_constant (half s)), s, w)
  | Total p, [x] => Some (plus (sum_up (map of_number x)) (of_constant p), 0, None)
  | SquareSum p s w, [x] => Some (plus (plus (sum_up (products_of x x)) (of_constant p)) (of_constant (half s)), s, w)
  | CentredSquareSum, [x; [t]] => Some (centred x t, 0, None)
  | _, _ => None
  end.
(* what the rules ask beyond intervals *)
Definition premise (o : operation) (a : list (list Z)) : Prop :=
  match o, a with CentredSquareSum, [x; [t]] => t = add_up x | _, _ => True end.

Section Formulas.
Variable e : node -> bool.
Notation val := (value e).
Lemma products_exact xs : forall ys, Forall (in_range e) xs -> Forall (in_range e) ys ->
  Forall2 (is_exact e) (products_of xs ys) (products (map val xs) (map val ys)).
Proof.
  unfold products_of, products. induction xs as [|x xs I]; intros [|y ys] F G; cbn [combine map]; try constructor.
  - inversion F; inversion G; subst. apply product_exact; auto.
  - inversion F; inversion G; subst. apply I; auto.
Qed.
Lemma numbers_exact xs : Forall (in_range e) xs -> Forall2 (is_exact e) (map of_number xs) (map val xs).
Proof. intros F. induction F; cbn [map]; constructor; auto. apply number_exact. auto. Qed.
Lemma rows_exact b : Forall (Forall (in_range e)) b -> Forall2 (is_exact e) (map (fun r => sum_up (map of_number r)) b) (map add_up (map (map val) b)).
Proof. intros F. induction F; cbn [map]; constructor; auto. apply sum_up_exact, numbers_exact. auto. Qed.
Lemma mixed_exact c : forall xs, Forall (in_range e) xs ->
  Forall2 (is_exact e) (map (fun t : Z * number => times (fst t) (of_number (snd t))) (combine c xs)) (products c (map val xs)).
Proof.
  unfold products. induction c as [|z c I]; intros [|x xs] F; cbn [combine map]; try constructor.
  - inversion F; subst. cbn [fst snd]. apply times_exact, number_exact. auto.
  - inversion F; subst. apply I; auto.
Qed.
Lemma squares_large x l : x * x * Z.of_nat (length l) + add_up (products l l) - 2 * x * add_up l >= 0.
Proof.
  unfold products. induction l as [|y l I]; cbn [length combine map add_up fold_right fst snd]; [lia|].
  fold (add_up l). fold (add_up (map (fun t : Z * Z => fst t * snd t) (combine l l))).
  set (q := add_up (map _ _)) in *. set (u := add_up l) in *. rewrite Nat2Z.inj_succ. pose proof (Z.square_nonneg (x - y)). nia.
Qed.
Lemma cauchy l : add_up l * add_up l <= Z.of_nat (length l) * add_up (products l l).
Proof.
  induction l as [|y l I]; [cbn; lia|]. pose proof (squares_large y l) as S. unfold products in *. cbn [length combine map add_up fold_right fst snd] in *.
  fold (add_up l) in *. fold (add_up (map (fun t : Z * Z => fst t * snd t) (combine l l))) in *.
  set (q := add_up (map _ _)) in *. set (u := add_up l) in *. rewrite Nat2Z.inj_succ. nia.
Qed.
Lemma squares_bound xs : Forall (in_range e) xs -> 0 <= add_up (products (map val xs) (map val xs)) <= add_up (map (fun x => magnitude x * magnitude x) xs).
Proof.
  intros F. unfold products. induction F as [|x xs R F I]; cbn [map combine add_up fold_right fst snd]; [lia|].
  fold (add_up (map (fun t : Z * Z => fst t * snd t) (combine (map val xs) (map val xs)))).
  fold (add_up (map (fun x => magnitude x * magnitude x) xs)). unfold in_range in R.
  assert (Z.abs (val x) <= magnitude x) by (unfold magnitude; lia). pose proof (Z.abs_square (val x)).
  pose proof (Z.abs_nonneg (val x)). assert (Z.abs (val x) * Z.abs (val x) <= magnitude x * magnitude x) by (apply Z.mul_le_mono_nonneg; lia). lia.
Qed.
Lemma concat_values a : map val (concat a) = concat (map (map val) a).
Proof. induction a as [|r a I]; cbn [concat map]; auto. rewrite map_app, I. auto. Qed.
Lemma in_range_concat a : Forall (Forall (in_range e)) a -> Forall (in_range e) (concat a).
Proof. intros F. induction F; cbn [concat]; [constructor|]. apply Forall_app. auto. Qed.
Theorem as_sum_sound o a x s w : as_sum o a = Some (x, s, w) -> Forall (Forall (in_range e)) a -> premise o (map (map val) a) ->
  exists v, is_exact e x v /\ formula o (map (map val) a) = [clamp w (v / 2 ^ s)].
Proof.
  intros H F Pr. destruct o; cbn [as_sum] in H; try discriminate.
  - destruct a as [|xs [|ys b]]; try discriminate. injection H as <- <- <-. inversion F as [|? ? F1 F']; subst. inversion F' as [|? ? F2 F3]; subst.
    eexists. split; [apply plus_exact; [apply plus_exact; [apply sum_up_exact, products_exact; eauto|apply times_exact, sum_up_exact, rows_exact; eauto]|apply constant_exact]|].
    cbn [map formula]. unfold narrow. do 3 f_equal. lia.
  - destruct a as [|[|x0 [|]] [|[|y0 [|]] [|[|z0 [|]] [|]]]]; try discriminate. injection H as <- <- <-.
    inversion F as [|? ? F1 F']; subst. inversion F' as [|? ? F2 F'']; subst. inversion F'' as [|? ? F3 _]; subst. inversion F1; inversion F2; inversion F3; subst.
    eexists. split; [apply plus_exact; [apply plus_exact; [apply product_exact; eauto|apply times_exact, number_exact; eauto]|apply constant_exact]|].
    cbn [map formula]. unfold narrow. do 3 f_equal. lia.
  - injection H as <- <- <-. eexists. split; [apply plus_exact; [apply sum_up_exact, mixed_exact, in_range_concat; exact F|apply constant_exact]|].
    cbn [formula]. rewrite <- concat_values. unfold narrow. auto.
  - destruct a as [|xs [|]]; try discriminate. injection H as <- <- <-. inversion F; subst.
    eexists. split; [apply plus_exact; [apply sum_up_exact, numbers_exact; eauto|apply constant_exact]|]. cbn [map formula clamp]. rewrite Z.div_1_r. auto.
  - destruct a as [|xs [|]]; try discriminate. injection H as <- <- <-. inversion F; subst.
    eexists. split; [apply plus_exact; [apply plus_exact; [apply sum_up_exact, products_exact; eauto|apply constant_exact]|apply constant_exact]|]. cbn [map formula]. auto.
  - destruct a as [|xs [|[|t [|]] [|]]]; try discriminate. injection H as <- <- <-. inversion F as [|? ? F1 F']; subst. inversion F' as [|? ? F2 _]; subst. inversion F2; subst.
    cbn [map premise] in Pr. pose proof (sum_up_exact e _ _ (products_exact xs xs F1 F1)) as [S _]. pose proof (product_exact e t t ltac:(auto) ltac:(auto)) as [T _].
    eexists. split; [split; [reflexivity|]|]; cbn [centred poly least largest]; rewrite !amount_app, !amount_scale, S, T; cbn [amount all_on forallb].
    + pose proof (cauchy (map val xs)) as C. rewrite map_length in C. pose proof (squares_bound xs F1) as Q. rewrite Pr. set (d := Z.of_nat (length xs)) in *.
      assert (0 <= d) by lia. set (q := add_up (products (map val xs) (map val xs))) in *. set (u := add_up (map val xs)) in *. nia.
    + cbn [map formula clamp]. rewrite map_length, Z.div_1_r. f_equal. lia.
Qed.
End Formulas.
