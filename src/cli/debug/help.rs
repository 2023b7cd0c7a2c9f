//! The commands of the debugger, as `help` lists them.

pub const HELP: &str = "\
Moving
  step, next            to the next statement of this call or of its callers
  into                  to the next statement of the task; into a child that it calls
  out                   to the next statement of a caller
  back, back into, back out
                        the same, backwards
  continue, reverse     to the next breakpoint, to the last one
  seek POSITION         to a position: 147.12, 147, start, end, failure
  entry, back entry     to the next entry of the history, to the last one
  child ID, parent      to the run of a child, and back
  operation NAME@KEY N  to a kept operation of an entity

Looking
  where                 the position and the statement
  list [LINES]          the source around it
  stack, tasks          the calls of the task, all tasks
  up, down, frame N     another call of the task
  task N                another task
  vars, print EXPR      the variables, the value of an expression
  output, waiting       the lines printed so far, the requests that wait
  history [N]           the entries around this moment
  who NAME              the statement that gave a variable its value

Breakpoints
  break LINE            also FILE:LINE; each may end with: if EXPR, hits N, log TEXT
  break fn NAME         at the first statement of a function
  break request NAME    at a request: http.get, an activity, an orchestration
  break answer NAME     at the answer to one
  break error [KIND]    where an error is thrown
  break uncaught        where the error is thrown that ended the instance
  watch NAME            where a variable changes
  breakpoints, delete N

  help, quit            an empty line repeats the last step";
