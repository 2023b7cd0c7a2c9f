local PI = 3.141592653589793
local SOLAR_MASS = 4.0 * PI * PI
local DAYS = 365.24
local function body(x, y, z, vx, vy, vz, mass)
  return {x = x, y = y, z = z, vx = vx * DAYS, vy = vy * DAYS, vz = vz * DAYS, mass = mass * SOLAR_MASS}
end
local function energy(bodies)
  local e = 0.0
  for i = 1, #bodies do
    local b = bodies[i]
    e = e + 0.5 * b.mass * (b.vx * b.vx + b.vy * b.vy + b.vz * b.vz)
    for j = i + 1, #bodies do
      local c = bodies[j]
      local dx, dy, dz = b.x - c.x, b.y - c.y, b.z - c.z
      e = e - b.mass * c.mass / math.sqrt(dx * dx + dy * dy + dz * dz)
    end
  end
  return e
end
local function simulate(bodies, steps, dt)
  local n = #bodies
  for _ = 1, steps do
    for i = 1, n do
      local a = bodies[i]
      for j = i + 1, n do
        local b = bodies[j]
        local dx, dy, dz = a.x - b.x, a.y - b.y, a.z - b.z
        local square = dx * dx + dy * dy + dz * dz
        local mag = dt / (square * math.sqrt(square))
        local mi, mj = a.mass * mag, b.mass * mag
        a.vx = a.vx - dx * mj
        a.vy = a.vy - dy * mj
        a.vz = a.vz - dz * mj
        b.vx = b.vx + dx * mi
        b.vy = b.vy + dy * mi
        b.vz = b.vz + dz * mi
      end
    end
    for i = 1, n do
      local a = bodies[i]
      a.x = a.x + dt * a.vx
      a.y = a.y + dt * a.vy
      a.z = a.z + dt * a.vz
    end
  end
  return bodies
end
local sun = body(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
local bodies = {
  sun,
  body(4.84143144246472090, -1.16032004402742839, -0.103622044471123109, 0.00166007664274403694, 0.00769901118419740425, -0.0000690460016972063023, 0.000954791938424326609),
  body(8.34336671824457987, 4.12479856412430479, -0.403523417114321381, -0.00276742510726411021, 0.00499852801234917238, 0.0000230417297573763929, 0.000285885980666130812),
  body(12.8943695621391310, -15.1111514016986312, -0.223307578892655734, 0.00296460137564761618, 0.00237847173959480950, -0.0000296589568540237556, 0.0000436624404335156298),
  body(15.3796971148509165, -25.9193146099879641, 0.179258772950371181, 0.00268067772490389322, 0.00162824170038242295, -0.0000951592254519715870, 0.0000515138902046611451),
}
local began = os.clock()
local after = simulate(bodies, 200000, 0.01)
print(energy(after))
print(os.clock() - began)
