-- The functions of a cluster. They run with the rights of the schema's owner, and find operators
-- and functions of the system alone. Every statement of a function sees what is committed when the
-- statement begins, so what follows a lock sees everything of the lock's last holder.

-- Keeps partitions that have no slots of the range from going before this transaction ends. One that
-- is gone comes back, since something is sent to it.
create or replace function durable.keep(p_parts int[]) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
declare
    v_part int;
begin
    for v_part in select distinct kept.part from unnest(p_parts) as kept (part)
        where not exists (select from durable.part where part.part = kept.part and part.hi > 0)
        order by kept.part
    loop
        loop
            perform from durable.part where part.part = v_part for key share;
            exit when found;
            insert into durable.part (part, lo, hi) values (v_part, 0, 0) on conflict (part) do nothing;
        end loop;
    end loop;
end $$;

-- Writes a batch of a partition. Returns `ok` or `landed` if the batch is in the database, by this
-- call or by an earlier one of the same batch; `deposed` if the caller owns the partition no more;
-- and `lost` with the number of the last commit if the database lacks commits of the caller. Raises
-- `DU001` if something that the batch consumes is not there.
--
-- The keys of each array are in order, so that two batches never wait for each other in a circle. An
-- array without elements is null, which costs the call less than an empty one.
create or replace function durable.commit(
    p_part int, p_epoch bigint, p_token uuid, p_n bigint,
    p_keys bytea[], p_values bytea[], p_gone bytea[],
    p_queue_slots int[], p_queue_keys bytea[], p_queue_values bytea[],
    p_gone_slots int[], p_gone_keys bytea[],
    p_dests int[], p_bodies bytea[], p_sources int[], p_numbers bigint[],
    p_requests bigint[], p_answers bytea[]
) returns text language plpgsql security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
declare
    v_epoch bigint;
    v_token uuid;
    v_n bigint;
    v_count bigint;
begin
    select part.epoch, part.token into v_epoch, v_token
        from durable.part where part.part = p_part for no key update;
    if v_token is null or v_epoch <> p_epoch or v_token <> p_token then
        return 'deposed';
    end if;
    v_count := coalesce(cardinality(p_keys), 0) + coalesce(cardinality(p_gone), 0)
        + coalesce(cardinality(p_queue_keys), 0) + coalesce(cardinality(p_gone_keys), 0);
    -- Most often, the commit before is the caller's own and the last one. Nobody else adds one, since
    -- the lock is held.
    insert into durable.commits (part, n, token, at, keys)
        select p_part, p_n, p_token, clock_timestamp(), v_count where exists (
            select from durable.commits
            where commits.part = p_part and commits.n = p_n - 1 and commits.token = p_token)
        on conflict (part, n) do nothing;
    if not found then
        select commits.n, commits.token into v_n, v_token
            from durable.commits where commits.part = p_part order by commits.n desc limit 1;
        v_n := coalesce(v_n, 0);
        if v_n = p_n and v_token = p_token then
            return 'landed';
        end if;
        if v_n <> p_n - 1 then
            return 'lost ' || v_n;
        end if;
        insert into durable.commits (part, n, token, at, keys)
            values (p_part, p_n, p_token, clock_timestamp(), v_count);
    end if;
    if cardinality(p_keys) = 1 then
        insert into durable.kv (k, v) values (p_keys[1], p_values[1])
            on conflict (k) do update set v = excluded.v;
    elsif cardinality(p_keys) > 1 then
        insert into durable.kv (k, v) select * from unnest(p_keys, p_values)
            on conflict (k) do update set v = excluded.v;
    end if;
    if cardinality(p_gone) > 0 then
        delete from durable.kv where kv.k = any (p_gone);
    end if;
    if cardinality(p_queue_keys) > 0 then
        insert into durable.queue (slot, k, v)
            select * from unnest(p_queue_slots, p_queue_keys, p_queue_values)
            on conflict (slot, k) do update set v = excluded.v;
    end if;
    if cardinality(p_gone_keys) > 0 then
        delete from durable.queue using unnest(p_gone_slots, p_gone_keys) as gone (slot, k)
            where queue.slot = gone.slot and queue.k = gone.k;
    end if;
    if cardinality(p_dests) > 0 then
        if exists (select from unnest(p_dests) as sent (dest)
            where not exists (select from durable.part where part.part = sent.dest and part.hi > 0)) then
            perform durable.keep(p_dests);
        end if;
        insert into durable.transit (dest, src, n, body)
            select sent.dest, p_part, p_n, sent.body from unnest(p_dests, p_bodies) as sent (dest, body);
    end if;
    if cardinality(p_numbers) > 0 then
        delete from durable.transit using unnest(p_sources, p_numbers) as taken (src, n)
            where transit.dest = p_part and transit.src = taken.src and transit.n = taken.n;
        get diagnostics v_count = row_count;
        if v_count <> cardinality(p_numbers) then
            raise exception 'only % of % arrivals are there', v_count, cardinality(p_numbers)
                using errcode = 'DU001';
        end if;
    end if;
    if cardinality(p_requests) > 0 then
        insert into durable.answer (n, body, at)
            select given.n, given.body, clock_timestamp() from unnest(p_requests, p_answers) as given (n, body)
            on conflict (n) do nothing;
    end if;
    if p_n % 1024 = 0 then
        delete from durable.commits where commits.part = p_part and commits.n < p_n - 1024;
    end if;
    return 'ok';
end $$;

-- Makes a worker known, or alive again.
create or replace function durable.enroll(
    p_worker uuid, p_name text, p_address text, p_version text, p_lease interval
) returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    insert into durable.worker (id, name, address, version, lease, began, until)
        values (p_worker, p_name, p_address, p_version, p_lease, clock_timestamp(), clock_timestamp() + p_lease)
        on conflict (id) do update set name = excluded.name, address = excluded.address,
            version = excluded.version, lease = excluded.lease, until = clock_timestamp() + excluded.lease;
    delete from durable.worker where worker.until < clock_timestamp() - interval '1 hour'
        and not exists (select from durable.part where part.owner = worker.id);
end $$;

-- Prolongs the lease of a worker. The time is read after the lock, so that no lease is old when it
-- begins. Returns false if the worker is not known any more.
create or replace function durable.beat(p_worker uuid) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform from durable.worker where worker.id = p_worker for no key update;
    update durable.worker set until = clock_timestamp() + worker.lease where worker.id = p_worker;
    return found;
end $$;

-- Whether another worker may take a partition of this owner: there is none, or its lease is over.
-- After a start of the server, every owner has a whole lease to prolong its own.
create or replace function durable.is_free(p_owner uuid) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_until timestamptz;
    v_lease interval;
begin
    if p_owner is null then
        return true;
    end if;
    select worker.until, worker.lease into v_until, v_lease
        from durable.worker where worker.id = p_owner;
    return not found or (v_until <= clock_timestamp()
        and pg_postmaster_start_time() + v_lease <= clock_timestamp());
end $$;

-- Takes a partition that is free, or is the worker's own already. Returns no row if another worker
-- has it, or if this worker's own lease is over. A partition without slots that is gone comes back.
create or replace function durable.take(p_worker uuid, p_part int)
returns table (epoch bigint, token text, n bigint, lo int, hi int, incarnation bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_owner uuid;
begin
    perform durable.keep(array[p_part]);
    select part.owner into v_owner from durable.part where part.part = p_part for no key update;
    if not found or (v_owner is distinct from p_worker and not durable.is_free(v_owner)) then
        return;
    end if;
    perform from durable.worker where worker.id = p_worker and worker.until > clock_timestamp();
    if not found then
        return;
    end if;
    update durable.part set owner = p_worker, epoch = part.epoch + 1, token = gen_random_uuid()
        where part.part = p_part;
    delete from durable.task where task.part = p_part;
    return query select part.epoch, part.token::text,
        coalesce((select max(commits.n) from durable.commits where commits.part = p_part), 0),
        part.lo, part.hi, (select cluster.incarnation from durable.cluster)
        from durable.part where part.part = p_part;
end $$;

-- Gives partitions back. What the worker has sent to the database for them and is not there yet
-- comes too late.
create or replace function durable.release(p_worker uuid, p_parts int[]) returns int
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_count int;
begin
    perform from durable.part where part.owner = p_worker and part.part = any (p_parts)
        order by part.part for no key update;
    update durable.part set owner = null, epoch = part.epoch + 1, token = null
        where part.owner = p_worker and part.part = any (p_parts);
    get diagnostics v_count = row_count;
    delete from durable.task using durable.part
        where task.part = any (p_parts) and part.part = task.part and part.epoch <> task.epoch;
    return v_count;
end $$;

-- Gives all partitions of a worker back, and removes the worker.
create or replace function durable.leave(p_worker uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform durable.release(p_worker, array(select part.part from durable.part where part.owner = p_worker));
    update durable.task set worker = null where task.worker = p_worker;
    delete from durable.worker where worker.id = p_worker;
end $$;

-- Offers activities of a partition to all workers, unless the partition has another owner by now.
create or replace function durable.offer(
    p_part int, p_epoch bigint, p_version int, p_ns bigint[], p_bodies bytea[]
) returns void language sql security definer set search_path = pg_catalog, pg_temp as $$
    insert into durable.task (part, epoch, n, version, body)
        select p_part, p_epoch, given.n, p_version, given.body from unnest(p_ns, p_bodies) as given (n, body)
        where exists (select from durable.part where part.part = p_part and part.epoch = p_epoch)
        on conflict (part, epoch, n) do nothing
$$;

-- Takes activities back that a partition has offered.
create or replace function durable.withdraw(p_part int, p_epoch bigint, p_ns bigint[]) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
    delete from durable.task where task.part = p_part and task.epoch = p_epoch and task.n = any (p_ns)
$$;

-- Gives a worker activities that no worker which is alive has. Activities of earlier owners of
-- their partitions are nobody's.
create or replace function durable.claim(p_worker uuid, p_version int, p_limit int)
returns table (part int, epoch bigint, n bigint, body bytea)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    return query
        with free as (
            select task.part, task.epoch, task.n from durable.task
                where task.version = p_version
                    and exists (select from durable.worker
                        where worker.id = p_worker and worker.until > clock_timestamp())
                    and (task.worker is null or durable.is_free(task.worker))
                    and exists (select from durable.part
                        where part.part = task.part and part.epoch = task.epoch)
                order by task.part, task.n limit p_limit for update of task skip locked)
        update durable.task set worker = p_worker from free
            where task.part = free.part and task.epoch = free.epoch and task.n = free.n
            returning task.part, task.epoch, task.n, task.body;
end $$;

-- Returns the activities that a worker still has.
create or replace function durable.claimed(p_worker uuid)
returns table (part int, epoch bigint, n bigint)
language sql security definer set search_path = pg_catalog, pg_temp as $$
    select task.part, task.epoch, task.n from durable.task where task.worker = p_worker
$$;

-- Sends the result of an activity to its partition, once. Returns false if the worker does not have
-- the activity any more.
create or replace function durable.finish(
    p_worker uuid, p_part int, p_epoch bigint, p_n bigint, p_body bytea
) returns boolean language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    delete from durable.task where task.part = p_part and task.epoch = p_epoch and task.n = p_n
        and task.worker = p_worker;
    if not found then
        return false;
    end if;
    insert into durable.transit (dest, src, n, body)
        values (p_part, -1, nextval('durable.requests'), p_body);
    return true;
end $$;

-- Makes a private partition, which has no slots of the range, and returns its number.
create or replace function durable.add_private() returns int
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_part int;
begin
    loop
        v_part := nextval('durable.private');
        insert into durable.part (part, lo, hi) values (v_part, 0, 0) on conflict (part) do nothing;
        if found then
            return v_part;
        end if;
    end loop;
end $$;

-- Removes a private partition of a worker. Keys that begin with one of the idle prefixes go with
-- it, except the life: if the partition comes back, no instance has the life of an earlier one with
-- its id. Returns false if anything else of the partition is left.
create or replace function durable.remove_private(p_worker uuid, p_part int, p_idle bytea[]) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform from durable.part where part.part = p_part and part.owner = p_worker and part.hi = 0 for update;
    if not found or exists (select from durable.transit where transit.dest = p_part)
        or exists (select from durable.queue where queue.slot = 4096 + p_part and not exists (
            select from unnest(p_idle) as idle (prefix)
            where substr(queue.k, 1, length(idle.prefix)) = idle.prefix)) then
        return false;
    end if;
    delete from durable.queue where queue.slot = 4096 + p_part and queue.k <> convert_to('s/life', 'UTF8');
    delete from durable.commits where commits.part = p_part;
    delete from durable.part where part.part = p_part;
    return true;
end $$;

-- Sends a client's request to a partition, once for each number. A private partition that is gone
-- comes back.
create or replace function durable.send(p_n bigint, p_dest int, p_body bytea) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform durable.keep(array[p_dest]);
    insert into durable.request (n, at) values (p_n, clock_timestamp()) on conflict (n) do nothing;
    if found then
        insert into durable.transit (dest, src, n, body) values (p_dest, -1, p_n, p_body);
    end if;
    return true;
end $$;

-- Returns a number for a client's request.
create or replace function durable.number() returns bigint
language sql security definer set search_path = pg_catalog, pg_temp as $$
    select nextval('durable.requests')
$$;

-- Removes an answer that the client has read, and its request.
create or replace function durable.forget(p_n bigint) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    delete from durable.answer where answer.n = p_n;
    if found then
        delete from durable.request where request.n = p_n;
    end if;
end $$;

-- Removes answers that nobody fetched for a day.
create or replace function durable.prune() returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    delete from durable.answer where answer.at < clock_timestamp() - interval '1 day';
    delete from durable.request where request.at < clock_timestamp() - interval '1 day';
    delete from durable.task where not exists (
        select from durable.part where part.part = task.part and part.epoch = task.epoch);
end $$;
