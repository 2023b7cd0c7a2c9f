(require-builtin steel/time)
(define names (list->vector (map (lambda (i) (string-append "group " (int->string i))) (range 0 100))))
(define began (current-milliseconds))
(define rows
  (map (lambda (i) (hash 'id i 'group (vector-ref names (modulo i 100)) 'amount (modulo i 1000))) (range 0 200000)))
(define (add groups row)
  (let ((group (hash-ref row 'group)))
    (hash-insert groups group (cons row (or (hash-try-get groups group) '())))))
(define groups (foldl (lambda (row groups) (add groups row)) (hash) rows))
(define total
  (foldl (lambda (members sum) (foldl (lambda (row sum) (+ sum (hash-ref row 'amount))) sum members)) 0
         (hash-values->list groups)))
(displayln total)
(displayln (/ (- (current-milliseconds) began) 1000.0))
