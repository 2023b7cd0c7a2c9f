//! A program whose runs the tests of the debugger visit. They name its lines by number.

pub const ORDERS: &str = "\
activity price(item) {
  match item {
    \"tea\" => 3,
    \"cake\" => 5,
    _ => throw {kind: \"unknown_item\", message: \"no price for {item}\"},
  }
}

fn total(items) {
  var sum = 0
  for item in items {
    let one = price(item)
    sum += one
    print(\"{item}: {one}\")
  }
  sum
}

orchestration order(items) {
  let sum = total(items)
  {sum, count: items.len()}
}

orchestration twice(items) {
  let first = order(items)
  {first, again: order(items)}
}
";
