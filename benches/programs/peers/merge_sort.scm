(require-builtin steel/time)
(define (merge xs ys out)
  (cond [(null? xs) (append (reverse out) ys)]
        [(null? ys) (append (reverse out) xs)]
        [(<= (car xs) (car ys)) (merge (cdr xs) ys (cons (car xs) out))]
        [else (merge xs (cdr ys) (cons (car ys) out))]))
(define (sorted xs n)
  (if (< n 2) xs
      (let ((half (quotient n 2)))
        (merge (sorted (take xs half) half) (sorted (drop xs half) (- n half)) '()))))
(define (numbers i seed out)
  (if (= i 200000) (reverse out)
      (let ((next (modulo (+ (* seed 1103515245) 12345) 2147483648)))
        (numbers (+ i 1) next (cons next out)))))
(define xs (numbers 0 42 '()))
(define began (current-milliseconds))
(define ys (sorted xs 200000))
(displayln (list-ref ys 0) " " (list-ref ys 100000) " " (list-ref ys 199999))
(displayln (/ (- (current-milliseconds) began) 1000.0))
