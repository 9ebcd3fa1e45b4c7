use strict; use IO::Handle; use POSIX;
$| = 1;
pipe(my $r, my $w);
my $p = fork();
if (!$p) { close $r; print $w "child\n"; close $w; POSIX::_exit(3) }
close $w; print scalar <$r>; waitpid($p, 0); print $? >> 8, "\n";
my %h = map { $_ => $_ ** 2 } 1 .. 10;
print join(",", map { "$_=$h{$_}" } sort { $a <=> $b } keys %h), "\n";
local $SIG{ALRM} = sub { print "alarm\n" };
alarm 1; pause();
open my $f, ">", "x" or die; print $f "data" x 10000; close $f; print -s "x", "\n";
print `echo backtick`;
system("sh", "-c", "exit 5"); print $? >> 8, "\n";
opendir my $d, "/usr" or die; print join(" ", sort grep { !/^\./ } readdir $d), "\n";
my @s = stat "/usr/bin/perl"; printf "%o %d\n", $s[2], $s[7];
