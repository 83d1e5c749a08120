-- Which tables are there?
show tables;

-- What does netinfo know of an endpoint?
describe netinfo;

-- The alert named two hosts. Was there anything towards the first?
select COUNT(*) from netinfo where destfqdn='undernet.irc.justedge.net' ;

-- And towards the second? (The blank before the quote is the seed's.)
select COUNT(*) from netinfo where destfqdn='dana.basefreak.nl ' ;

-- There was. Which application, which user, which process?
select application,username,pid from netinfo where destfqdn='dana.basefreak.nl' LIMIT 5;

-- The same for the other host.
select application,username,pid from netinfo where destfqdn='undernet.irc.justedge.net' LIMIT 10;

-- User nobody runs a crond? What does psinfo know of a process?
describe psinfo;

-- How much did nobody run?
select COUNT(*) from psinfo where username='nobody' ;

-- Few enough to read. No crond is among them, but the last two are what was sought.
select command,username,arguments,pid,ppid from psinfo where username='nobody' \G;

-- When and from where did the second one connect? (29312 is the seed's; that of this run stands in its place.)
select sourceport,destport,cday,chour,cmin from netinfo where username='nobody' AND pid='29312' \G;
