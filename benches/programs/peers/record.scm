(require-builtin steel/time)
(define began (current-milliseconds))
(define (filled i map)
  (if (= i 100000) map
      (filled (+ i 1) (hash-insert map (string-append "key" (int->string i)) i))))
(define (summed i map sum)
  (if (= i 100000) sum
      (summed (+ i 1) map (+ sum (hash-ref map (string-append "key" (int->string (modulo (* i 7) 100000))))))))
(define m (filled 0 (hash)))
(displayln (hash-length m) " " (summed 0 m 0))
(displayln (/ (- (current-milliseconds) began) 1000.0))
