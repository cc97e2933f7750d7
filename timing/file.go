package timing

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/BurntSushi/toml"
)

// Load reads parameters from a TOML file: a table for each field of [Params], a key for each parameter. What the file does
// not name keeps its default. An unknown key, a value of another type, and one outside its range are errors that name the
// file and the key.
func Load(path string) (Params, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Params{}, fmt.Errorf("timing: parameters: %w", err)
	}
	p, err := Parse(string(text))
	if err != nil {
		return Params{}, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// Parse is [Load] of a text.
func Parse(text string) (Params, error) {
	p := Default()
	meta, err := toml.Decode(text, &p)
	if err != nil {
		var at toml.ParseError
		if errors.As(err, &at) {
			return Params{}, fmt.Errorf("timing: line %d, %q: %s", at.Position.Line, at.LastKey, at.Message)
		}
		return Params{}, fmt.Errorf("timing: %w", err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		var names []string
		for _, k := range unknown {
			names = append(names, k.String())
		}
		return Params{}, fmt.Errorf("timing: there is no parameter %s: `whale mirror params` lists them", strings.Join(names, ", "))
	}
	return p, p.Check()
}

// Text is p as a file that [Load] reads, each parameter with its meaning, unit and range.
func (p Params) Text() string {
	var b strings.Builder
	table := ""
	for _, a := range All {
		section, key, _ := strings.Cut(a.Name, ".")
		if section != table {
			if table != "" {
				b.WriteByte('\n')
			}
			fmt.Fprintf(&b, "[%s]\n", section)
			if table = section; section == "memory" {
				fmt.Fprintf(&b, "eadr = %v # caches are inside the persistence domain\n", p.Memory.EADR)
				fmt.Fprintf(&b, "cxl = %v # memory behind CXL, without a granule\n", p.Memory.CXL)
			}
		}
		fmt.Fprintf(&b, "%s = %g # %s, %g to %g: %s\n", key, *a.Of(&p), a.Unit, a.Min, a.Max, a.Help)
	}
	return b.String()
}
