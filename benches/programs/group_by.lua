local names = {}
for i = 0, 99 do names[i] = "group " .. i end
local began = os.clock()
local rows = {}
for i = 0, 199999 do rows[#rows + 1] = {id = i, group = names[i % 100], amount = i % 1000} end
local groups = {}
for _, row in ipairs(rows) do
  local members = groups[row.group]
  if not members then members = {} groups[row.group] = members end
  members[#members + 1] = row
end
local total = 0
for _, members in pairs(groups) do
  for _, row in ipairs(members) do total = total + row.amount end
end
print(total)
print(os.clock() - began)
