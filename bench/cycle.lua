-- Inserts, claims and commits in equal parts: each connection asks for whatever is next to be done.
local inserted, claimed, turn = 0, {}, 0
local run = tostring(os.time()) .. "-" .. tostring(math.random(1000000))
local json = { ["Content-Type"] = "application/json" }

function request()
  if #claimed > 0 then
    local task = table.remove(claimed, 1)
    return wrk.format("PATCH", "/v1/topics/bench/tasks/" .. task.id, json, '{"nonce":"' .. task.nonce .. '"}')
  end
  turn = 1 - turn
  if turn == 1 then
    inserted = inserted + 1
    return wrk.format("POST", "/v1/topics/bench/tasks/" .. run .. "-" .. inserted, json,
      '{"payload":{"url":"https://example.com/page","depth":3}}')
  end
  return wrk.format("POST", "/v1/topics/bench/promises?timeout=30s&consumer=bench")
end

function response(status, headers, body)
  if status == 200 then
    local id, state, nonce = body:match('"_id":"([^"]+)".-"state":(%d),"nonce":"(%w*)"')
    if state == "1" then claimed[#claimed + 1] = { id = id, nonce = nonce } end
  end
end
