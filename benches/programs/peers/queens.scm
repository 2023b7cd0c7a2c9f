(require-builtin steel/time)
(define (safe? queens row column)
  (let loop ((r 0))
    (if (= r row) #t
        (let ((c (mut-vector-ref queens r)))
          (if (or (= c column) (= (- c column) (- r row)) (= (- c column) (- row r))) #f (loop (+ r 1)))))))
(define (place queens row n)
  (if (= row n) 1
      (let loop ((column 0) (found 0))
        (if (= column n) found
            (if (safe? queens row column)
                (begin (vector-set! queens row column)
                       (loop (+ column 1) (+ found (place queens (+ row 1) n))))
                (loop (+ column 1) found))))))
(define began (current-milliseconds))
(displayln (place (mutable-vector 0 1 2 3 4 5 6 7 8) 0 9))
(displayln (/ (- (current-milliseconds) began) 1000.0))
