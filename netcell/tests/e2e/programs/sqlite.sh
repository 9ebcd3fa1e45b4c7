sqlite3 d.db 'pragma journal_mode=wal; create table t(a integer primary key, b text);
with recursive c(x) as (select 1 union all select x+1 from c where x<5000) insert into t select x, hex(x) from c; select count(*), sum(a) from t;' &&
sqlite3 d.db 'select b from t where a=4242; begin; delete from t where a%2; commit; select count(*) from t; pragma integrity_check; vacuum;' &&
sqlite3 d.db 'pragma journal_mode=delete; insert into t values(1, "x"); select count(*) from t;' && ls
