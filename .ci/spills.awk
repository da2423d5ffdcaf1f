# Are the sums of products in registers? Reads `objdump -d --no-show-raw-insn` of the library and fails where an innermost
# loop of a product's kernel stores a vector on the stack: a sum that goes to memory and back in every term costs a third
# of the speed, and nothing but the clock would tell. Loops of fewer than 32 multiply-adds are activations', whose
# constants may stand on the stack.

/^[0-9a-f]+ <.*>:$/ {
  look()
  name = $2
  n = 0
  product = name ~ /(avx2|avx512|neon)[0-9]+(steps|block_steps|weight_gradient)/
  next
}

product && /^ *[0-9a-f]+:/ {
  address = $1
  sub(":", "", address)
  at[address] = n
  text[n] = $0
  # A jump backwards ends a loop: which instruction it begins with.
  if ($2 ~ /^(j|b\.|cbn?z|tbn?z)/ && $3 in at) first[n] = at[$3]
  n++
}

END {
  look()
  print loops + 0 " loops of products, " bad + 0 " with vectors on the stack"
  exit bad > 0 || loops == 0
}

# The loops of the function that has been read.
function look(   last, other, inner, i, sums, stack) {
  for (last in first) {
    inner = 1
    for (other in first) {
      if (other != last && first[other] >= first[last] && other + 0 < last + 0) inner = 0
    }
    if (!inner) continue
    sums = stack = 0
    for (i = first[last]; i <= last; i++) {
      if (text[i] ~ /vfmadd|fmla/) sums++
      if (text[i] ~ /vmov[au]p[sd] +%[yz]mm[0-9]+,.*\(%rsp|st[rp] +q.*\[sp/) stack++
    }
    if (sums < 32) continue
    loops++
    if (stack > 0) {
      print stack " vectors stored in a loop of " sums " multiply-adds: " name
      bad++
    }
  }
  split("", at)
  split("", text)
  split("", first)
}
