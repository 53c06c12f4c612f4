"""The command line: `fp4cc check | compile | emit | run | verify | explain | layout | doctor`."""
