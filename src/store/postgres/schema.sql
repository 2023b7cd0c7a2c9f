-- The schema of a cluster. `durable store init` executes this file in one transaction.
--
-- Whoever runs it owns the schema. Workers, clients and readers call the functions, which run with
-- the owner's rights, and read the tables.

create schema durable;

-- The cluster itself: one row. `incarnation` grows when an operator accepts that the database was
-- restored to an earlier time.
create table durable.cluster (
    only_one boolean primary key default true check (only_one),
    id uuid not null default gen_random_uuid(),
    format int not null,
    partitions int not null,
    incarnation bigint not null default 0,
    created timestamptz not null default clock_timestamp()
);

-- The workers, and the time until which each is alive by this server's clock.
create table durable.worker (
    id uuid primary key,
    name text not null,
    address text not null,
    version text not null,
    lease interval not null,
    began timestamptz not null,
    until timestamptz not null
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

-- The partitions: the slots from `lo` to before `hi`, and the owner with its fence. A row changes
-- only when its owner does; a commit locks the row, and writes no new version of it.
create table durable.part (
    part int primary key,
    lo int not null,
    hi int not null,
    owner uuid,
    epoch bigint not null default 0,
    token uuid
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);
create index part_owner on durable.part (owner);

-- The numbers of private partitions, which have no slots of the range.
create sequence durable.private minvalue 10000 maxvalue 2147479551;

-- The commits of each partition, append-only. The highest number of a partition counts.
create table durable.commits (
    part int not null,
    n bigint not null,
    token uuid not null,
    at timestamptz not null,
    keys int not null,
    primary key (part, n)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_insert_scale_factor = 0.5);

-- The keys of the whole cluster.
create table durable.kv (
    k bytea primary key,
    v bytea not null
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
alter table durable.kv alter column k set storage plain;
alter table durable.kv alter column v set storage external;

-- The keys that a partition reads when it is taken over, by their slots.
create table durable.queue (
    slot int not null,
    k bytea not null,
    v bytea not null,
    primary key (slot, k)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000,
        autovacuum_analyze_scale_factor = 0.1);
alter table durable.queue alter column k set storage plain;
alter table durable.queue alter column v set storage external;

-- What partitions and clients (`src` is -1) sent, and no commit has consumed.
create table durable.transit (
    dest int not null,
    src int not null,
    n bigint not null,
    body bytea not null,
    primary key (dest, src, n)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
alter table durable.transit alter column body set storage external;

-- The requests of clients, so that each is sent once, and the answers.
create sequence durable.requests;
create table durable.request (
    n bigint primary key,
    at timestamptz not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
create table durable.answer (
    n bigint primary key,
    body bytea not null,
    at timestamptz not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- The activities that partitions offer to all workers, and the worker that runs each. A row is gone
-- when its activity has ended or is not wanted any more.
create table durable.task (
    part int not null,
    epoch bigint not null,
    n bigint not null,
    version int not null,
    body bytea not null,
    worker uuid,
    primary key (part, epoch, n)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);
alter table durable.task alter column body set storage external;
