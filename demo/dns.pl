# The incident's name server: 127.0.0.1, UDP and TCP. Knows two names, one of them by two aliases; every tenth answer over UDP is cut, so that
# it is asked for again over TCP. Says "ready" on standard input, which is a socket, and ends when that closes.
use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;

my %zone = (
    'undernet.irc.justedge.net' => [A => '79.125.109.171'],
    'dana.basefreak.nl'         => [CNAME => 'hub.basefreak.nl'],
    'hub.basefreak.nl'          => [CNAME => 'leaf.basefreak.nl'],
    'leaf.basefreak.nl'         => [A => '85.121.125.74'],
);
my @here = (LocalAddr => '127.0.0.1', LocalPort => 53);
my $udp = IO::Socket::INET->new(@here, Proto => 'udp') or die "dns.pl: UDP port 53: $!\n";
my $tcp = IO::Socket::INET->new(@here, Proto => 'tcp', Listen => 16) or die "dns.pl: TCP port 53: $!\n";
open my $starter, '+<&=', 0 or die "dns.pl: standard input: $!\n";
syswrite $starter, "ready\n";

my $select = IO::Select->new($udp, $tcp, $starter);
my $asked = 0;
while (1) {
    for my $ready ($select->can_read) {
        $ready == $starter and exit;
        if ($ready == $udp) {
            my $peer = $udp->recv(my $question, 512) or next;
            my $cut = ++$asked % 10 == 0;
            $udp->send($cut ? truncated($question) : answer($question), 0, $peer);
            write_down('answered', 'udp', (unpack_sockaddr_in($peer))[0]);
        } else {
            my $asker = $tcp->accept or next;
            $asker->sysread(my $question, 514);
            $asker->syswrite(pack 'n/a', answer(unpack 'n/a', $question));
            write_down('answered', 'tcp', $asker->peerport);
        }
    }
}

sub write_down { syswrite STDOUT, "dns $$ @_\n" }

sub truncated {
    my ($question) = @_;
    return pack('n2', unpack('n', $question), 0x8780) . substr $question, 4;
}

sub answer {
    my ($question) = @_;
    my $name = lc join '.', unpack 'x12 (C/a)*', $question =~ s/\0.{4}\z//sr;
    my $records = '';
    my ($count, $owner) = (0, 12);
    while (my $entry = $zone{$name}) {
        (my $type, $name) = @$entry;
        my $data = $type eq 'A' ? inet_aton($name) : pack '(C/a)* x', split /\./, $name;
        # Each owner is a pointer (RFC 1035, 4.1.4): to the question, or to where the alias before stands.
        $records .= pack 'n3 N n/a', 0xc000 | $owner, $type eq 'A' ? 1 : 5, 1, 60, $data;
        $owner = length($question) + length($records) - length $data;
        $count++;
    }
    return pack('n6', unpack('n', $question), $count ? 0x8580 : 0x8583, 1, $count, 0, 0) . substr($question, 12) . $records;
}
