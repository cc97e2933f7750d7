package steps

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

func TestEventsComeBack(t *testing.T) {
	want := []Event{
		{Run: "r1", Kind: Ready, Seconds: 4.5},
		{Run: "r1", Kind: Line, Step: "pmem", Text: "--- FAIL: \"quoted\"\ttab\nnewline \x01 µ"},
		{Run: "r1", Kind: End, Step: "pmem", Failed: true, Text: "exit status 1"},
	}
	var b bytes.Buffer
	for _, e := range want {
		if err := Encode(&b, e); err != nil {
			t.Fatal(err)
		}
	}
	if n := bytes.Count(b.Bytes(), []byte{'\n'}); n != len(want) {
		t.Errorf("%d lines for %d events", n, len(want))
	}
	var got []Event
	if err := Decode(&b, "r1", func(e Event) { got = append(got, e) }); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
}

// What is not an event of this run is not taken for one.
func TestForeignLinesAreErrors(t *testing.T) {
	for line, want := range map[string]string{
		"PASS\n":                      "PASS",
		"{\"Run\":\"r1\",\"Kind\":\n": "Kind",
		"{\"Run\":\"r0\",\"Kind\":\"end\",\"Step\":\"pmem\"}\n": "not of this run",
		"{}\n": "not of this run",
	} {
		seen := 0
		err := Decode(strings.NewReader(line), "r1", func(Event) { seen++ })
		if err == nil || !strings.Contains(err.Error(), want) || seen > 0 {
			t.Errorf("%q: %d events, %v", line, seen, err)
		}
	}
}

func TestStepsHaveNamesAndLimits(t *testing.T) {
	for _, s := range All {
		if found, ok := Find(s.Name); !ok || found != s || s.What == "" || s.Limit == 0 {
			t.Errorf("%+v, found %+v", s, found)
		}
	}
}
