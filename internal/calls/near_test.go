package calls

import "testing"

func TestDistance(t *testing.T) {
	for _, test := range []struct {
		pattern, name string
		want          int
	}{
		{"", "", 0},
		{"", "abc", 3},
		{"abc", "", 3},
		{"tcp_sendmsg", "tcp_sendmsg", 0},
		{"tcp_sendmsgg", "tcp_sendmsg", 1},
		{"tcp_sndmsg", "tcp_sendmsg", 1},
		{"tcp_sendmgs", "tcp_sendmsg", 2},
		{"udp_sendmsg", "tcp_sendmsg", 2},
		{"?cp_*", "tcp_sendmsg", 0},
		{"*", "", 0},
		{"*msgg", "tcp_sendmsg", 1},
		{"tcp*mssg*ed", "tcp_sendmsg_locked", 1},
	} {
		if got := distance(test.pattern, test.name); got != test.want {
			t.Errorf("distance(%q, %q) = %d, want %d", test.pattern, test.name, got, test.want)
		}
	}
}
