package sim

import (
	"strings"
	"testing"
)

func TestReadFaults(t *testing.T) {
	const cluster = `"cluster": {"members": 3, "protocol": "whale", "policy": "mirror", "mirrors": 1, "segments": 4, "clients": 2, "operations": 10, "latency": "1us", "think": "0s"}`
	for _, c := range []struct{ text, wrong string }{
		{`{}`, ""},
		{`{"crash": 0, "drift": 1000}`, ""},
		{`{"schedule": [{"kind": "crash", "after": 3, "for": "1ms", "members": [2]}], ` + cluster + `}`, ""},
		{`{"crush": 1}`, `unknown field "crush": faults are crash, power,`},
		{`{"crash": -1}`, "the rate of crash is -1"},
		{`{"crash": 1e9}`, "the rate of crash is 1e+09: it must be from 0 to 1000"},
		{`{"drift": 1e9}`, "the drift is 1e+09"},
		{"{\"crash\": 1,\n\"power\" 2}", "line 2: invalid character"},
		{`{} {}`, "something follows"},
		{``, "EOF"},
		{`{"schedule": [{"kind": "flood"}]}`, `event 1: unknown kind "flood": there are crash,`},
		{`{"schedule": [{"kind": "crash"}]}`, "crash of 0 members"},
		{`{"schedule": [{"kind": "cut", "members": [1, 1]}]}`, "member 1 twice"},
		{`{"schedule": [{"kind": "cut", "members": [1], "one-way": true}]}`, "one-way takes two"},
		{`{"schedule": [{"kind": "crash", "members": [3]}], ` + cluster + `}`, "member 3, there are 0 to 2"},
		{`{"schedule": [{"kind": "crash", "members": [0], "for": "a while"}]}`, `"a while" is no duration`},
		{`{"schedule": [{"kind": "crash", "members": [0], "for": "-1s"}]}`, "cannot be negative"},
		{`{"schedule": [{"kind": "pause", "members": [0], "for": "1h"}]}`, "at most 1m"},
		{strings.Replace(`{`+cluster+`}`, `"whale"`, `"raft"`, 1), `unknown protocol "raft"`},
		{strings.Replace(`{`+cluster+`}`, `"mirror"`, `"none"`, 1), `unknown policy "none"`},
		{strings.Replace(`{`+cluster+`}`, `"members": 3`, `"members": 70`, 1), "members is 70: it must be from 1 to 7"},
		{strings.Replace(`{`+cluster+`}`, `"1us"`, `"1h"`, 1), "latency must be"},
		{strings.Replace(`{`+cluster+`}`, `"1us"`, `"1us", "lease": "5ms", "patience": "2ms"`, 1), ""},
		{strings.Replace(`{`+cluster+`}`, `"1us"`, `"1us", "lease": "5ms"`, 1), "lease and patience must be from 1ms to 10s"},
		{strings.Replace(`{`+cluster+`}`, `"1us"`, `"1us", "lease": "5us", "patience": "5ms"`, 1), "lease and patience must be from 1ms to 10s"},
		{`{"drift": 300000, "bound": 100}`, ""},
		{`{"bound": -1}`, "the bound on drift is -1"},
		{`{"schedule": [{"kind": "coordinator", "members": [0]}]}`, "coordinator of 1 members: it takes 0 to 0"},
	} {
		_, err := ReadFaults(strings.NewReader(c.text))
		switch {
		case c.wrong == "" && err != nil:
			t.Errorf("%s: %v", c.text, err)
		case c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)):
			t.Errorf("%s: %v, want %q", c.text, err, c.wrong)
		}
	}
}

// Whatever can be read can be run.
func FuzzReadFaults(f *testing.F) {
	f.Add(`{"crash": 3, "cluster": {"members": 2, "protocol": "chain", "policy": "all", "mirrors": 1, "segments": 2, "clients": 1, "operations": 5, "latency": "3us", "think": "1us"}}`)
	f.Add(`{"schedule": [{"kind": "cut", "after": 1, "for": "5ms", "members": [1, 0], "one-way": true}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		faults, err := ReadFaults(strings.NewReader(text))
		if err != nil || len(faults.Schedule) > 20 {
			return
		}
		if c := faults.Cluster; c != nil {
			c.Operations, c.Segments, c.Clients = c.Operations%50, 2+c.Segments%4, 1+c.Clients%8
		} else {
			faults.Cluster = &Cluster{Members: replicaLimit, Protocol: "whale", Policy: "mirror", Mirrors: 1, Segments: 2, Clients: 1, Operations: 20, Latency: 1000}
		}
		if _, err := Run(1, Options{Faults: faults}); err != nil {
			t.Fatal(err)
		}
	})
}
