# A stand-in for an IRC server: irc.pl ADDRESS PORT VISITS CODE. Answers one line to each visitor, and sends away the last of so many with the
# exit code that he shall end with. Says "ready" on standard input, which is a socket, and ends when that closes.
use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;

my ($address, $port, $visits, $code) = @ARGV;
my $listener = IO::Socket::INET->new(Proto => 'tcp', LocalAddr => $address, LocalPort => $port, Listen => 16)
    or die "irc.pl: $address:$port: $!\n";
open my $starter, '+<&=', 0 or die "irc.pl: standard input: $!\n";
write_down('listening', $address, $port);
syswrite $starter, "ready\n";

my $select = IO::Select->new($listener, $starter);
my $accepted = 0;
while (1) {
    for my $ready ($select->can_read) {
        $ready == $starter and exit;
        my $visitor = $listener->accept or next;
        my $line = <$visitor> // '';
        my $answer = ++$accepted < $visits ? "PING $accepted\r\n" : "KILL $code\r\n";
        $visitor->syswrite($answer);
        write_down('accepted', $address, $port, $visitor->peerhost, $visitor->peerport, length $line, length $answer);
    }
}

sub write_down { syswrite STDOUT, "irc $$ @_\n" }
