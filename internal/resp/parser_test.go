package resp

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// small limits make the limits' own cases short.
var small = Limits{MaxArgs: 5, MaxBulk: 20, MaxInline: 40, MaxCommand: 100}

// outcome is what a parser makes of a stream: its commands, then perhaps an error, and how much it took.
type outcome struct {
	commands []string // each as fmt's %q of its arguments; blank lines left out
	err      error
	consumed int
}

func (o outcome) String() string {
	return fmt.Sprintf("%v, error %v, %d bytes consumed", o.commands, o.err, o.consumed)
}

// feed gives a parser the stream in pieces, moves what is left to fresh memory before each call, and spoils the old: the
// parser must not keep pointers into it.
func feed(t interface{ Fatalf(string, ...any) }, limits Limits, stream []byte, pieces []int) (o outcome) {
	p := Parser{Limits: limits}
	var buf []byte
	for _, piece := range append(pieces, len(stream)) {
		piece = min(piece, len(stream))
		moved := append(slices.Clone(buf), stream[:piece]...)
		for i := range buf {
			buf[i] = 0xee
		}
		buf, stream = moved, stream[piece:]
		for {
			args, n, err := p.Next(buf)
			if n < 0 || n > len(buf) || err != nil && n != 0 || n == 0 && args != nil {
				t.Fatalf("Next of %q: %d arguments, n %d, error %v", buf, len(args), n, err)
			}
			if err != nil {
				o.err = err
				return o
			}
			if n == 0 {
				if len(buf) > 0 && p.Need() <= len(buf) {
					t.Fatalf("%q is incomplete, but Need is %d", buf, p.Need())
				}
				break
			}
			if len(args) > 0 {
				for _, a := range args {
					if cap(a) != len(a) {
						t.Fatalf("an append to argument %q would overwrite the buffer", a)
					}
				}
				o.commands = append(o.commands, fmt.Sprintf("%q", args))
			}
			o.consumed += n
			buf = buf[n:]
		}
	}
	return o
}

func TestParser(t *testing.T) {
	long := strings.Repeat("x", 41)
	for _, c := range []struct {
		name, stream string
		want         []string
		err          *ProtocolError
		limits       Limits
	}{
		{name: "one command", stream: "*2\r\n$3\r\nGET\r\n$1\r\na\r\n", want: []string{`["GET" "a"]`}},
		{name: "pipelined", stream: "*1\r\n$4\r\nPING\r\n*2\r\n$4\r\nECHO\r\n$0\r\n\r\n", want: []string{`["PING"]`, `["ECHO" ""]`}},
		{name: "any bytes", stream: "*1\r\n$6\r\n\r\n*1\x00$\r\n", want: []string{`["\r\n*1\x00$"]`}},
		{name: "empty and null arrays are skipped", stream: "*0\r\n*-1\r\n*-7\r\n*1\r\n$1\r\nx\r\n", want: []string{`["x"]`}},
		{name: "an argument's end is not looked at", stream: "*1\r\n$1\r\nxyz*1\r\n$1\r\ny\r\n", want: []string{`["x"]`, `["y"]`}},

		{name: "count: no number", stream: "*\r\n", err: errMultibulkLength},
		{name: "count: leading zero", stream: "*01\r\n", err: errMultibulkLength},
		{name: "count: plus", stream: "*+1\r\n", err: errMultibulkLength},
		{name: "count: minus zero", stream: "*-0\r\n", err: errMultibulkLength},
		{name: "count: blank", stream: "*1 \r\n", err: errMultibulkLength},
		{name: "count: too large", stream: "*6\r\n", err: errMultibulkLength, limits: small},
		{name: "count: beyond 64 bits", stream: "*18446744073709551617\r\n", err: errMultibulkLength},
		{name: "count: 10 digits", stream: "*9999999999\r\n", err: errMultibulkLength},
		{name: "count: no end", stream: "*" + long, err: errMultibulkHeader, limits: small},
		{name: "count: late end", stream: "*" + long + "\r\n", err: errMultibulkHeader, limits: small},
		{name: "size: no dollar", stream: "*1\r\n:3\r\n", err: &ProtocolError{"expected '$', got ':'"}},
		{name: "size: empty line", stream: "*1\r\n\r\n", err: &ProtocolError{"expected '$', got '\r'"}},
		{name: "size: no dollar, line not whole", stream: "*1\r\n:3\r"},
		{name: "size: negative", stream: "*1\r\n$-1\r\n", err: errBulkLength},
		{name: "size: no number", stream: "*1\r\n$x\r\n", err: errBulkLength},
		{name: "size: too large", stream: "*1\r\n$21\r\n", err: errBulkLength, limits: small},
		{name: "size: no end", stream: "*1\r\n$" + long, err: errBulkHeader, limits: small},
		{name: "size: late end", stream: "*1\r\n$" + long + "\r\n", err: errBulkHeader, limits: small},
		{name: "command too large", stream: "*5\r\n" + strings.Repeat("$20\r\n12345678901234567890\r\n", 5), err: errCommandSize, limits: small},

		{name: "inline", stream: "  SET a\t b \r\nGET a\n", want: []string{`["SET" "a" "b"]`, `["GET" "a"]`}},
		{name: "blank lines", stream: "\r\n\n  \r\nPING\r\n", want: []string{`["PING"]`}},
		{name: "all kinds of blanks", stream: "\vECHO\ra\tb\vc\f \vd\n", want: []string{`["ECHO" "a" "b\vc\f" "d"]`}},
		{name: "double quotes", stream: `ECHO "a b\n\r\t\b\a\x41\x4G\"\\\q"` + "\n", want: []string{`["ECHO" "a b\n\r\t\b\aAx4G\"\\q"]`}},
		{name: "single quotes", stream: `ECHO 'a "b\n\''` + "\n", want: []string{`["ECHO" "a \"b\\n'"]`}},
		{name: "quote inside a word", stream: `ECHO a"b c" ""` + "\n", want: []string{`["ECHO" "ab c" ""]`}},
		{name: "open quote", stream: "ECHO \"a\r\n", err: errUnbalanced},
		{name: "open quote with escape", stream: "ECHO \"a\\\r\n", err: errUnbalanced},
		{name: "word behind a quote", stream: `ECHO "a"b` + "\n", err: errUnbalanced},
		{name: "open single quote", stream: "'\n", err: errUnbalanced},
		{name: "inline: no end", stream: long, err: errInlineSize, limits: small},
		{name: "inline: late end", stream: long + "\n", err: errInlineSize, limits: small},
		{name: "inline: longest", stream: long[:40] + "\n", want: []string{`["` + long[:40] + `"]`}, limits: small},
		{name: "nothing is skipped after an error", stream: "PING\r\n*x\r\nPING\r\n", want: []string{`["PING"]`}, err: errMultibulkLength},
	} {
		t.Run(c.name, func(t *testing.T) {
			stream := []byte(c.stream)
			whole := feed(t, c.limits, stream, nil)
			if !slices.Equal(whole.commands, c.want) {
				t.Errorf("commands %v, want %v", whole.commands, c.want)
			}
			var got *ProtocolError
			if errors.As(whole.err, &got) != (c.err != nil) || c.err != nil && got.Error() != c.err.Error() {
				t.Errorf("error %v, want %v", whole.err, c.err)
			}
			for i := range stream {
				if split := feed(t, c.limits, stream, []int{i}); split.String() != whole.String() {
					t.Errorf("split at %d: %v\nin one piece: %v", i, split, whole)
				}
			}
			if bytewise := feed(t, c.limits, stream, slices.Repeat([]int{1}, len(stream))); bytewise.String() != whole.String() {
				t.Errorf("byte by byte: %v\nin one piece: %v", bytewise, whole)
			}
		})
	}
}

// TestParserNextInto queues several commands whose arguments all stay usable.
func TestParserNextInto(t *testing.T) {
	var p Parser
	buf := AppendCommand(AppendCommand(nil, "SET", "k", "v"), "GET", "k")
	args, n, err := p.NextInto(buf, nil)
	if err != nil {
		t.Fatal(err)
	}
	both, m, err := p.NextInto(buf[n:], args)
	if got := fmt.Sprintf("%q", both); err != nil || n+m != len(buf) || got != `["SET" "k" "v" "GET" "k"]` {
		t.Fatalf("%s, %d of %d bytes, error %v", got, n+m, len(buf), err)
	}
	if rest, n, err := p.NextInto([]byte("*1\r\n$4"), both); n != 0 || err != nil || len(rest) != len(both) {
		t.Fatalf("incomplete: %d arguments, n %d, error %v", len(rest), n, err)
	}
}

// TestParserNeed: the end of a large argument is known as soon as its header is there.
func TestParserNeed(t *testing.T) {
	var p Parser
	buf := AppendCommand(nil, []byte("SET"), []byte("k"), make([]byte, 5000))
	for _, have := range []int{40, 1000, len(buf) - 1} {
		if _, n, err := p.Next(buf[:have]); n != 0 || err != nil || p.Need() != len(buf) {
			t.Errorf("%d of %d bytes: n %d, error %v, Need %d", have, len(buf), n, err, p.Need())
		}
	}
}

// TestParserRoundTrip: what AppendCommand writes, any parser reads, however it arrives.
func TestParserRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		command := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 50), 1, 10)
		var stream []byte
		var want []string
		for _, args := range rapid.SliceOfN(command, 0, 5).Draw(t, "commands") {
			stream = AppendCommand(stream, args...)
			want = append(want, fmt.Sprintf("%q", args))
		}
		pieces := rapid.SliceOfN(rapid.IntRange(0, 20), 0, 50).Draw(t, "pieces")
		got := feed(t, Limits{}, stream, pieces)
		if got.err != nil || got.consumed != len(stream) || !slices.Equal(got.commands, want) {
			t.Fatalf("got %v\nwant %v", got, want)
		}
	})
}

// TestParserReadsLargeArgumentsOnce: a command of many arguments that arrives in small pieces costs linear time. The
// parser is shown rising prefixes; were it to start over each time, it would look at some 10^10 bytes.
func TestParserReadsLargeArgumentsOnce(t *testing.T) {
	args := slices.Repeat([]string{"0123456789"}, 100_000)
	buf := AppendCommand(nil, args...)
	var p Parser
	for have := 0; have < len(buf); have += 16 {
		if _, n, err := p.Next(buf[:have]); n != 0 || err != nil {
			t.Fatalf("%d of %d bytes: n %d, error %v", have, len(buf), n, err)
		}
		if have > 100 && p.pos < have-40 {
			t.Fatalf("parsed up to %d with %d bytes there", p.pos, have)
		}
	}
	if got, n, err := p.Next(buf); len(got) != len(args) || n != len(buf) || err != nil {
		t.Fatalf("%d arguments of %d, n %d of %d, error %v", len(got), len(args), n, len(buf), err)
	}
}

// TestParserGivesMemoryBack: one huge command does not make its connection large for ever.
func TestParserGivesMemoryBack(t *testing.T) {
	var p Parser
	for _, n := range []int{100_000, 1, 1} {
		if _, _, err := p.Next(AppendCommand(nil, slices.Repeat([]string{"x"}, n)...)); err != nil {
			t.Fatal(err)
		}
	}
	if cap(p.args) > maxKeptArgs || cap(p.spans) > maxKeptArgs {
		t.Errorf("kept room for %d arguments and %d spans", cap(p.args), cap(p.spans))
	}
}

func FuzzParser(f *testing.F) {
	for _, seed := range []string{
		"*2\r\n$3\r\nGET\r\n$1\r\na\r\n", "*0\r\n*-1\r\nPING\r\n", "*01\r\n", "*1\r\n$-1\r\n", "*1\r\n:1\r\n", "*1\r\n$20\r\n",
		"SET 'a b' \"c\\x41\\n\"\r\n", "ECHO \"open\n", "\r\n\n", "*9999999999\r\n", "*1\r", "*5\r\n$20\r\n",
	} {
		f.Add([]byte(seed), uint64(1))
	}
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64) {
		limits := small
		if seed%2 == 0 {
			limits = Limits{}
		}
		whole := feed(t, limits, stream, nil)
		var pe *ProtocolError
		if whole.err != nil && !errors.As(whole.err, &pe) {
			t.Fatalf("error of another type: %v", whole.err)
		}
		if bytewise := feed(t, limits, stream, slices.Repeat([]int{1}, len(stream))); bytewise.String() != whole.String() {
			t.Fatalf("byte by byte: %v\nin one piece: %v", bytewise, whole)
		}
		random := rand.New(rand.NewPCG(seed, 0))
		var pieces []int
		for range len(stream) / 4 {
			pieces = append(pieces, random.IntN(12))
		}
		if split := feed(t, limits, stream, pieces); split.String() != whole.String() {
			t.Fatalf("in pieces %v: %v\nin one piece: %v", pieces, split, whole)
		}
	})
}

func set64() []byte {
	return AppendCommand(nil, []byte("SET"), []byte("key:0000000000123"), bytes.Repeat([]byte("v"), 64))
}

func TestParserDoesNotAllocate(t *testing.T) {
	buf := bytes.Repeat(set64(), 16)
	inline := []byte("SET a 'b c'\r\n")
	var p Parser
	run := func() {
		for rest := buf; len(rest) > 0; {
			_, n, err := p.Next(rest)
			if n == 0 || err != nil {
				t.Fatal(n, err)
			}
			rest = rest[n:]
		}
		if _, n, _ := p.Next(buf[:50]); n != 0 {
			t.Fatal("50 bytes are no command")
		}
		if _, n, _ := p.Next(buf); n == 0 {
			t.Fatal("incomplete")
		}
		copy(inline, "SET a 'b c'\r\n")
		if _, n, _ := p.Next(inline); n == 0 {
			t.Fatal("incomplete")
		}
	}
	if allocs := testing.AllocsPerRun(100, run); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func BenchmarkParserSet64Pipelined(b *testing.B) {
	one := set64()
	buf := bytes.Repeat(one, 64)
	var p Parser
	b.ReportAllocs()
	b.SetBytes(int64(len(one)))
	rest := buf
	for b.Loop() {
		if len(rest) == 0 {
			rest = buf
		}
		_, n, err := p.Next(rest)
		if err != nil {
			b.Fatal(err)
		}
		rest = rest[n:]
	}
}
