-- What the seed did not ask: which processes go by another name on the network than the image that runs?
select n.application, p.command, p.username, p.pid, p.arguments, count(n.destfqdn) as connections
  from netinfo n join psinfo p on p.host = n.host and p.psentity = n.psentity
 where n.application <> substr(p.command, length(rtrim(p.command, replace(p.command, '/', ''))) + 1, 15)
 group by n.application, p.command, p.username, p.pid, p.arguments
 order by connections desc;

-- Who started them?
select distinct n.application, p.pid, s.username, s.pid as ppid, s.command, s.arguments
  from netinfo n join psinfo p on p.host = n.host and p.psentity = n.psentity
  join psinfo s on s.host = p.host and s.psentity = p.ppsentity
 where n.application <> substr(p.command, length(rtrim(p.command, replace(p.command, '/', ''))) + 1, 15)
 order by p.pid;
