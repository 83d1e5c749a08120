-- Which file was ./x? The interpreter opened it: so says the kernel, by device and inode.
select distinct f.location, f.filename, f.device, f.inode, p.pid, p.arguments
  from psinfo p join fileinfo f on f.host = p.host and f.psentity = p.psentity
 where p.script = './x' and f.filename = 'x' and f.access = 'r'
 order by p.pid;

-- Who wrote it into that directory? (The same device and inode, opened to be written.)
select distinct w.operation, w.application, w.username, w.loginname, w.pid, w.sizeafter
  from fileinfo w join fileinfo f on f.host = w.host and f.device = w.device and f.inode = w.inode
  join psinfo p on p.host = f.host and p.psentity = f.psentity
 where p.script = './x' and f.filename = 'x' and w.access in ('w', 'rw');

-- From which connection was it fetched?
select distinct n.application, n.direction, n.destip, n.destport, n.bytesreceived
  from netinfo n join fileinfo w on w.host = n.host and w.psentity = n.psentity
  join fileinfo f on f.host = w.host and f.device = w.device and f.inode = w.inode
  join psinfo p on p.host = f.host and p.psentity = f.psentity
 where p.script = './x' and f.filename = 'x' and w.access in ('w', 'rw') and n.direction = 'out';

-- What else was touched by whoever was in that session, and by x itself?
select distinct t.application, t.operation, t.access, t.filename, t.result
  from fileinfo t
 where t.psentity in (select p.psentity from psinfo p where p.host = t.host and p.script = './x')
    or t.session in (select w.session from fileinfo w join fileinfo f on f.host = w.host and f.device = w.device and f.inode = w.inode
                       join psinfo p on p.host = f.host and p.psentity = f.psentity
                      where w.host = t.host and p.script = './x' and f.filename = 'x' and w.access in ('w', 'rw'))
 order by t.application, t.operation, t.filename;

-- Which login stands behind it?
select distinct s.username, s.service, s.session, s.tty, s.remotehost
  from sessioninfo s join fileinfo w on w.host = s.host and w.session = s.session
  join fileinfo f on f.host = w.host and f.device = w.device and f.inode = w.inode
  join psinfo p on p.host = f.host and p.psentity = f.psentity
 where p.script = './x' and f.filename = 'x' and w.access in ('w', 'rw');
