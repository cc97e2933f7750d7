//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
)

// exchange is a command and what the client must make of its reply: a string, an int64, nil, a list, or errText.
type exchange struct {
	args []any
	want any
}

type errText string // an error that begins like this

func do(args ...any) exchange { return exchange{args: args} }

func (e exchange) is(want any) exchange { e.want = want; return e }

// exchanges is every command that works on data, in an order that makes each reply certain. k is the prefix of the keys.
func exchanges(k string) []exchange {
	list := func(v ...any) []any { return v }
	return []exchange{
		do("PING").is("PONG"),
		do("PING", "hi").is("hi"),
		do("ECHO", "hello").is("hello"),
		do("SELECT", "0").is("OK"),
		do("SELECT", "1").is(errText("ERR DB index is out of range")),
		do("DEL", k+"a", k+"b", k+"c", k+"n").is(int64(0)),
		do("GET", k+"a").is(nil),
		do("SET", k+"a", "1").is("OK"),
		do("GET", k+"a").is("1"),
		do("SET", k+"a", "2", "NX").is(nil),
		do("SET", k+"a", "2", "XX").is("OK"),
		do("SET", k+"none", "2", "XX").is(nil),
		do("SET", k+"a", "3", "GET").is("2"),
		do("SET", k+"a", "4", "NX", "GET").is("3"),
		do("SET", k+"a", "4", "NX", "XX").is(errText("ERR syntax error")),
		do("GETSET", k+"a", "5").is("3"),
		do("GETSET", k+"b", "x").is(nil),
		do("SETNX", k+"b", "y").is(int64(0)),
		do("SETNX", k+"c", "y").is(int64(1)),
		do("EXISTS", k+"a", k+"b", k+"none", k+"a").is(int64(3)),
		do("MSET", k+"a", "10", k+"b", "20", k+"c", "").is("OK"),
		do("MSET", k+"a").is(errText("ERR wrong number of arguments for 'mset' command")),
		do("MGET", k+"a", k+"none", k+"b", k+"c").is(list("10", nil, "20", "")),
		do("APPEND", k+"c", "whale").is(int64(5)),
		do("APPEND", k+"c", " song").is(int64(10)),
		do("GET", k+"c").is("whale song"),
		do("STRLEN", k+"c").is(int64(10)),
		do("STRLEN", k+"none").is(int64(0)),
		do("INCR", k+"n").is(int64(1)),
		do("INCRBY", k+"n", "41").is(int64(42)),
		do("DECR", k+"n").is(int64(41)),
		do("DECRBY", k+"n", "50").is(int64(-9)),
		do("INCR", k+"c").is(errText("ERR value is not an integer or out of range")),
		do("SET", k+"n", "9223372036854775807").is("OK"),
		do("INCR", k+"n").is(errText("ERR increment or decrement would overflow")),
		do("GET", k+"n").is("9223372036854775807"),
		do("WAIT", "2", "5000").is(int64(2)),
		do("WAIT", "-1", "x").is(errText("ERR")),
		do("SET", k+"bin", "\x00\r\n\xff$3\r\n").is("OK"),
		do("GET", k+"bin").is("\x00\r\n\xff$3\r\n"),
		do("SET", k+"", "empty end").is("OK"),
		do("GET", k+"").is("empty end"),
		do("UNLINK", k+"bin", k+"", k+"none").is(int64(2)),
		do("DEL", k+"a", k+"b", k+"none").is(int64(2)),
		do("GET", k+"a").is(nil),
		do("DEL", k+"c", k+"n").is(int64(2)),
		do("NONSENSE", "x").is(errText("ERR unknown command 'NONSENSE'")),
		do("GET").is(errText("ERR wrong number of arguments for 'get' command")),
		do("SET", k+"a", "1", "EX", "10", "PX", "5").is(errText("ERR")),
	}
}

// asker is a client library.
type asker interface {
	ask(args ...any) (any, error)
	// pipeline sends all at once; errors are in the replies.
	pipeline(cmds [][]any) []any
	close()
}

type goRedis struct{ c *redis.Client }

func newGoRedis(addr string, proto int) asker {
	return goRedis{redis.NewClient(&redis.Options{Addr: addr, Protocol: proto, MaxRetries: -1, ReadTimeout: 20 * time.Second, WriteTimeout: 20 * time.Second})}
}

func (g goRedis) ask(args ...any) (any, error) {
	v, err := g.c.Do(context.Background(), args...).Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	return v, err
}

func (g goRedis) pipeline(cmds [][]any) (out []any) {
	p := g.c.Pipeline()
	for _, args := range cmds {
		p.Do(context.Background(), args...)
	}
	replies, _ := p.Exec(context.Background())
	for _, r := range replies {
		v, err := r.(*redis.Cmd).Result()
		switch {
		case errors.Is(err, redis.Nil):
			v = nil
		case err != nil:
			v = errText(err.Error())
		}
		out = append(out, v)
	}
	return out
}

func (g goRedis) close() { g.c.Close() }

type ruedis struct{ c rueidis.Client }

func newRueidis(t testing.TB, addr string, proto int) asker {
	c, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{addr}, DisableCache: true, AlwaysRESP2: proto == 2, ForceSingleClient: true, DisableRetry: true,
		ConnWriteTimeout: 20 * time.Second,
	})
	if err != nil {
		t.Fatalf("rueidis, RESP%d, %s: %v", proto, addr, err)
	}
	return ruedis{c}
}

func (r ruedis) build(args []any) rueidis.Completed {
	words := make([]string, len(args))
	for i, a := range args {
		words[i] = a.(string)
	}
	return r.c.B().Arbitrary(words[0]).Args(words[1:]...).Build()
}

func (r ruedis) ask(args ...any) (any, error) {
	return ruedisValue(r.c.Do(context.Background(), r.build(args)))
}

func ruedisValue(res rueidis.RedisResult) (any, error) {
	v, err := res.ToAny()
	if rueidis.IsRedisNil(err) {
		return nil, nil
	}
	return v, err
}

func (r ruedis) pipeline(cmds [][]any) (out []any) {
	var built []rueidis.Completed
	for _, args := range cmds {
		built = append(built, r.build(args))
	}
	for _, res := range r.c.DoMulti(context.Background(), built...) {
		v, err := ruedisValue(res)
		if err != nil {
			v = errText(err.Error())
		}
		out = append(out, v)
	}
	return out
}

func (r ruedis) close() { r.c.Close() }

// forEachClient runs f with each library, in both protocols, at each node.
func forEachClient(t *testing.T, c *cluster, f func(t *testing.T, a asker, node int, k string)) {
	for node, addr := range c.addrs {
		for _, proto := range []int{2, 3} {
			for _, lib := range []string{"go-redis", "rueidis"} {
				t.Run(fmt.Sprintf("%s,RESP%d,node%d", lib, proto, node), func(t *testing.T) {
					var a asker
					if lib == "rueidis" {
						a = newRueidis(t, addr, proto)
					} else {
						a = newGoRedis(addr, proto)
					}
					defer a.close()
					f(t, a, node, fmt.Sprintf("%s:%d:%d:", lib, proto, node))
				})
			}
		}
	}
}

func matches(got any, err error, want any) bool {
	text, isErr := want.(errText)
	if !isErr {
		return err == nil && reflect.DeepEqual(got, want)
	}
	if e, ok := got.(errText); ok {
		err = errors.New(string(e))
	}
	// rueidis leaves the code "ERR" out.
	return err != nil && (strings.HasPrefix(err.Error(), string(text)) || strings.HasPrefix("ERR "+err.Error(), string(text)))
}

func TestClientLibraries(t *testing.T) {
	c := newCluster(t)
	forEachClient(t, c, func(t *testing.T, a asker, node int, k string) {
		all := exchanges(k)
		for _, e := range all {
			if got, err := a.ask(e.args...); !matches(got, err, e.want) {
				t.Errorf("%q: %#v, %v; want %#v", e.args, got, err, e.want)
			}
		}
		var cmds [][]any
		for _, e := range all {
			cmds = append(cmds, e.args)
		}
		for i, got := range a.pipeline(cmds) {
			if !matches(got, nil, all[i].want) {
				t.Errorf("in a pipeline: %q: %#v; want %#v", all[i].args, got, all[i].want)
			}
		}
		for _, args := range [][]any{
			{"COMMAND"}, {"COMMAND", "COUNT"}, {"COMMAND", "DOCS", "get"}, {"COMMAND", "LIST"}, {"COMMAND", "INFO", "set"}, {"CLIENT", "ID"},
			{"CLIENT", "INFO"}, {"CLIENT", "LIST"}, {"CLIENT", "SETNAME", "e2e"}, {"CLIENT", "GETNAME"}, {"INFO"}, {"INFO", "server"}, {"ROLE"},
			{"DBSIZE"}, {"HELLO"},
		} {
			if got, err := a.ask(args...); err != nil || got == nil {
				t.Errorf("%q: %v, %v", args, got, err)
			}
		}
	})
	if reply, err := c.once(2, "FLUSHALL"); err != nil || reply != "OK" {
		t.Errorf("FLUSHALL: %q, %v", reply, err)
	}
	for i := range c.addrs {
		if reply, err := c.once(i, "DBSIZE"); err != nil || reply != "0" {
			t.Errorf("DBSIZE at node %d after FLUSHALL: %q, %v", i, reply, err)
		}
	}
}

// The order of replies is that of the requests, whatever each of them needs: a forwarded write, a local read, an error.
func TestDeepPipelines(t *testing.T) {
	c := newCluster(t)
	forEachClient(t, c, func(t *testing.T, a asker, node int, k string) {
		var cmds [][]any
		var want []any
		for i := range size(2000, 5) {
			v := fmt.Sprint(i)
			cmds = append(cmds, []any{"SET", k + "p", v}, []any{"GET", k + "p"}, []any{"ECHO", v}, []any{"INCR", k + "n"}, []any{"GET", k + "none"})
			want = append(want, "OK", v, v, int64(i+1), nil)
		}
		got := a.pipeline(cmds)
		for i := range want {
			if !reflect.DeepEqual(got[i], want[i]) {
				t.Fatalf("reply %d, to %q: %#v, want %#v", i, cmds[i], got[i], want[i])
			}
		}
	})
}

func TestLargeValues(t *testing.T) {
	c := newCluster(t, "--arena", "512MiB")
	forEachClient(t, c, func(t *testing.T, a asker, node int, k string) {
		for _, n := range []int{100_000, 1 << 20, 7 << 20} {
			want := value(n, n)
			if got, err := a.ask("SET", k+"large", want); err != nil || got != "OK" {
				t.Fatalf("SET of %d bytes: %v, %v", n, got, err)
			}
			if got, err := a.ask("GET", k+"large"); err != nil || got != want {
				t.Errorf("GET of %d bytes at the same node: %.40v, %v", n, got, err)
			}
			other := (node + 1) % len(c.addrs)
			if got, err := c.once(other, "GET", k+"large"); err != nil || got != want {
				t.Errorf("GET of %d bytes at node %d: %d bytes, %v", n, other, len(got), err)
			}
		}
		if external != nil {
			return
		}
		// A segment is 8 MiB; the connection must survive.
		if got, err := a.ask("SET", k+"large", strings.Repeat("x", 9<<20)); err == nil {
			t.Errorf("a value larger than a segment: %v", got)
		} else if text := err.Error(); !strings.Contains(text, "large") && !strings.Contains(text, "exceed") && !strings.Contains(text, "limit") {
			t.Errorf("a value larger than a segment: %v, which does not say so", err)
		}
		if got, err := a.ask("STRLEN", k+"large"); err != nil || got != int64(7<<20) {
			t.Errorf("after the refused value: %v, %v", got, err)
		}
	})
}
