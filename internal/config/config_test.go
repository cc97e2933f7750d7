package config

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// load is what a process does with a file, an environment and flags.
func load(t *testing.T, file string, env map[string]string, flags ...string) (Settings, error) {
	t.Helper()
	var s Settings
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	s.Bind(fs)
	if file != "" {
		path := filepath.Join(t.TempDir(), "node.toml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		flags = append(flags, "--config", path)
	}
	if err := fs.Parse(flags); err != nil {
		t.Fatal(err)
	}
	environ := []string{"HOME=/", "WHALE_E2E=long", "WHALEBONE=1"}
	for name, text := range env {
		environ = append(environ, name+"="+text)
	}
	err := s.Load(fs, environ)
	return s, err
}

func TestDefaults(t *testing.T) {
	s, err := load(t, "", nil)
	if err != nil || s.Port != 7001 || s.Timeout != 10*time.Second || s.Policy != "mirror" || s.Arena != 0 || s.Insecure {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestWhatIsCloserWins(t *testing.T) {
	const file = "threads = 2\nmirrors = 2\nmax-clients = 2\npeers = ['a', 'b,c']\narena = '64MiB'\nmax-argument = 4096\ninsecure = true\ntimeout = '1s'\n"
	s, err := load(t, file, map[string]string{"WHALE_MIRRORS": "3", "WHALE_MAX_CLIENTS": "3", "WHALE_TIMEOUT": "2s"}, "--max-clients", "4", "--insecure=false")
	want := Settings{Threads: 2, Mirrors: 3, MaxClients: 4, Peers: []string{"a", "b,c"}, Arena: 64 << 20, MaxArgument: 4096, Timeout: 2 * time.Second}
	if err != nil || s.Threads != want.Threads || s.Mirrors != want.Mirrors || s.MaxClients != want.MaxClients || !reflect.DeepEqual(s.Peers, want.Peers) ||
		s.Arena != want.Arena || s.MaxArgument != want.MaxArgument || s.Insecure || s.Timeout != want.Timeout || s.LogLevel != "info" {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err = load(t, "peers = ['a']", map[string]string{"WHALE_PEERS": "x,y"}); err != nil || !reflect.DeepEqual(s.Peers, []string{"x", "y"}) {
		t.Errorf("a list in the environment: %v, %v", s.Peers, err)
	}
	for _, c := range []struct {
		file   string
		env    map[string]string
		flags  []string
		listen string
	}{
		{"listen = '10.0.0.1:1'", nil, []string{"--port", "5"}, ""},
		{"port = 5", nil, []string{"--listen", "10.0.0.1:1"}, "10.0.0.1:1"},
		{"listen = '10.0.0.1:1'", map[string]string{"WHALE_PORT": "5"}, nil, ""},
	} {
		if s, err := load(t, c.file, c.env, c.flags...); err != nil || s.Listen != c.listen {
			t.Errorf("%q, %v, %v: listen %q, %v", c.file, c.env, c.flags, s.Listen, err)
		}
	}
}

func TestEnvironmentNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.toml")
	os.WriteFile(path, []byte("threads = 7"), 0o600)
	if s, err := load(t, "", map[string]string{"WHALE_CONFIG": path}); err != nil || s.Threads != 7 {
		t.Errorf("%d threads, %v", s.Threads, err)
	}
}

// Each error names the place, the setting and what was expected there.
func TestErrors(t *testing.T) {
	for _, c := range []struct {
		file string
		env  map[string]string
		want string
	}{
		{"threads = 2\n\n  thread = 3\n", nil, `node.toml:3: unknown setting "thread"; whale config prints all there are`},
		{"threads = 2\nconfig = 'x'", nil, `node.toml:2: unknown setting "config"`},
		{"", map[string]string{"WHALE_POLICI": "all"}, `WHALE_POLICI="all" in the environment: there is no such setting; whale config prints all there are`},
		{"", map[string]string{"WHALE_": ""}, `WHALE_="" in the environment: there is no such setting`},
		{"threads = 2\n[whale]\nid = 1", nil, `node.toml:2: unknown setting "whale"`},
		{"threads = 2\n\"thr ead\" = 3\n", nil, `node.toml:2: unknown setting "thr ead"`},
		{"\n\ntimeout = 7", nil, "node.toml:3: timeout: expected a value of the type duration, not 7"},
		{"timeout = '7'", nil, "node.toml:1: timeout: expected a value of the type duration: time: missing unit"},
		{"threads = '7'", nil, "node.toml:1: threads: expected a value of the type int, not 7"},
		{"insecure = 1", nil, "node.toml:1: insecure: expected a value of the type bool, not 1"},
		{"policy = true", nil, "node.toml:1: policy: expected a value of the type string, not true"},
		{"peers = [1]", nil, "node.toml:1: peers: expected a list of strings"},
		{"peers = 'a'", nil, "node.toml:1: peers: expected a value of the type stringSlice, not a"},
		{"port = [\"a\"]", nil, "node.toml:1: port: expected"},
		{"arena = -1", nil, "node.toml:1: arena: expected a value of the type size: expected a size like 64MiB"},
		{"arena = 1.5", nil, "node.toml:1: arena: expected"},
		{"a = 1\nb = = 2", nil, "node.toml:2: "},
		{"port = 1\nlisten = 'a:1'", nil, "both listen (a:1) and port (1) are set: leave one of them out"},
		{"", map[string]string{"WHALE_THREADS": "many"}, `WHALE_THREADS="many" in the environment: expected a value of the type int`},
		{"", map[string]string{"WHALE_CONFIG": "/nowhere/x.toml"}, "--config: open /nowhere/x.toml: no such file"},
	} {
		if _, err := load(t, c.file, c.env); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q, %v: %v\nwant %q", c.file, c.env, err, c.want)
		}
	}
	// What a flag overrides is checked as well.
	if _, err := load(t, "threads = 'x'", nil, "--threads", "2"); err == nil {
		t.Error("a wrong file is not noticed behind a flag")
	}
}

// TestWriteReadsBack: what is printed is a file with the same meaning, and has a word about every key.
func TestWriteReadsBack(t *testing.T) {
	for _, flags := range [][]string{
		nil,
		{"--slowlog-max-len", "7", "--id", "2", "--peers", `a,b,"c ""d\"`, "--arena", "64MiB", "--timeout", "1500ms", "--insecure", "--listen", "[::1]:5", "--policy", "x\ty"},
	} {
		want, err := load(t, "", nil, flags...)
		if err != nil {
			t.Fatal(err)
		}
		var text bytes.Buffer
		if err := want.Write(&text); err != nil {
			t.Fatal(err)
		}
		got, err := load(t, text.String(), nil)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v\n got %+v\nwant %+v\nfrom\n%s", err, got, want, &text)
		}
		for _, key := range Keys() {
			if key.Secret != (key.Name == "requirepass") {
				t.Errorf("%s: is it secret?", key.Name)
			}
			if !strings.Contains(text.String(), "# --"+key.Name+", "+key.Env) || key.Help == "" {
				t.Errorf("nothing about %s in\n%s", key.Name, &text)
			}
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]uint64{"0": 0, "4096": 4096, "64MiB": 64 << 20, "1gib": 1 << 30, "3 KiB": 3 << 10, "2TiB": 2 << 40, "7B": 7} {
		var s Size
		if err := s.Set(text); err != nil || uint64(s) != want {
			t.Errorf("%q: %d, %v", text, s, err)
		}
		var again Size
		if err := again.Set(s.String()); err != nil || again != s {
			t.Errorf("%d prints as %q, which reads as %d, %v", s, s.String(), again, err)
		}
	}
	for _, text := range []string{"", "x", "1GB", "-1", "1.5GiB", "MiB", "99999999999TiB", "18446744073709551616"} {
		var s Size
		if err := s.Set(text); err == nil {
			t.Errorf("%q is taken for %d", text, s)
		}
	}
}
