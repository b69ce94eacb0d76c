"""Sixteen numbers at a time, for code that numba compiles.

numba has no vectors, and whether a loop becomes vector instructions is the compiler's guess. Here they are values like
any other: `a * x + b` on sixteen lanes is one instruction where the processor has such wide ones, and two or four
where it does not, with the same bits. Memory is told by its address, a whole number of bytes: what is compiled needs
nothing of Python and of numpy when it runs.

Names: a `Floats` is sixteen float32, an `Ints` sixteen int32 (or the sixty-four bytes in them).
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numba.core import types as nb
from numba.extending import intrinsic, models, overload, register_model

LANES = 16
_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_F32 = ir.FloatType()
_BYTES, _HALVES, _SHORTS = (ir.VectorType(kind, LANES) for kind in (_I8, ir.HalfType(), _I16))
_INTS, _FLOATS = ir.VectorType(_I32, LANES), ir.VectorType(_F32, LANES)


class _Vector(nb.Type):
    def __init__(self, name: str, form: ir.VectorType) -> None:
        super().__init__(name=name)
        self.form = form


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: _Vector) -> None:
        super().__init__(manager, kind, kind.form)


Floats, Ints = _Vector("Floats", _FLOATS), _Vector("Ints", _INTS)


def _instruction(result: nb.Type, *arguments: nb.Type) -> Callable[[Callable[..., Any]], Any]:
    """Makes a function for numba code from one that builds its instructions: `(builder, *values) -> value`."""

    def make(build: Callable[..., Any]) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
            value = build(builder, *values)
            return context.get_dummy_value() if result is nb.void else value

        # numba looks at the names of the arguments, so there is one maker for each count of them.
        makers: list[Callable[..., Any]] = [
            lambda typing: (result(), generate),
            lambda typing, a: (result(*arguments), generate),
            lambda typing, a, b: (result(*arguments), generate),
            lambda typing, a, b, c: (result(*arguments), generate),
        ]
        maker = makers[len(arguments)]
        maker.__name__, maker.__doc__ = build.__name__, build.__doc__
        return intrinsic(maker)

    return make


def _call(builder: ir.IRBuilder, name: str, result: ir.Type, *values: Any) -> Any:
    kind = ir.FunctionType(result, [value.type for value in values])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), values)


def _at(builder: ir.IRBuilder, address: Any, kind: ir.Type) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _same(kind: ir.VectorType, value: int) -> ir.Constant:
    return ir.Constant(kind, [value] * LANES)


def _spread(builder: ir.IRBuilder, value: Any) -> Any:
    kind = ir.VectorType(value.type, LANES)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, first, _same(_INTS, 0))


# Memory


@_instruction(Floats, nb.intp)
def load(b: Any, address: Any) -> Any:
    """Sixteen float32."""
    return b.load(_at(b, address, _FLOATS), align=4)


@_instruction(nb.void, nb.intp, Floats)
def store(b: Any, address: Any, value: Any) -> Any:
    """Sixteen float32."""
    b.store(value, _at(b, address, _FLOATS), align=4)


@_instruction(Floats, nb.intp)
def load_halves(b: Any, address: Any) -> Any:
    """Sixteen float16, widened."""
    return b.fpext(b.load(_at(b, address, _HALVES), align=2), _FLOATS)


@_instruction(nb.void, nb.intp, Floats)
def store_halves(b: Any, address: Any, value: Any) -> Any:
    """Sixteen float32, rounded to float16."""
    b.store(b.fptrunc(value, _HALVES), _at(b, address, _HALVES), align=2)


@_instruction(Floats, nb.intp)
def load_brain(b: Any, address: Any) -> Any:
    """Sixteen bfloat16, widened: they are the upper halves of float32."""
    wide = b.zext(b.load(_at(b, address, _SHORTS), align=2), _INTS)
    return b.bitcast(b.shl(wide, _same(_INTS, 16)), _FLOATS)


@_instruction(Floats, nb.intp)
def spread_at(b: Any, address: Any) -> Any:
    """A float32, the same in all lanes."""
    return _spread(b, b.load(_at(b, address, _F32), align=4))


@_instruction(Floats, nb.intp)
def load_bytes(b: Any, address: Any) -> Any:
    """Sixteen signed bytes as numbers."""
    return b.sitofp(b.load(_at(b, address, _BYTES), align=1), _FLOATS)


@_instruction(nb.void, nb.intp, Ints)
def store_bytes(b: Any, address: Any, value: Any) -> Any:
    """The lowest byte of each lane."""
    b.store(b.trunc(value, _BYTES), _at(b, address, _BYTES), align=1)


@_instruction(nb.float32, nb.intp)
def get(b: Any, address: Any) -> Any:
    """One float32."""
    return b.load(_at(b, address, _F32), align=4)


@_instruction(nb.void, nb.intp, nb.float32)
def put(b: Any, address: Any, value: Any) -> Any:
    """One float32."""
    b.store(value, _at(b, address, _F32), align=4)


@_instruction(nb.intp, nb.intp)
def get_byte(b: Any, address: Any) -> Any:
    """One unsigned byte."""
    return b.zext(b.load(_at(b, address, _I8), align=1), _I64)


@_instruction(nb.float32, nb.intp)
def get_half(b: Any, address: Any) -> Any:
    """One float16, widened."""
    return b.fpext(b.load(_at(b, address, ir.HalfType()), align=2), _F32)


@_instruction(nb.void, nb.intp, nb.float32)
def put_half(b: Any, address: Any, value: Any) -> Any:
    """One float32, rounded to float16."""
    b.store(b.fptrunc(value, ir.HalfType()), _at(b, address, ir.HalfType()), align=2)


@_instruction(nb.void, nb.intp, nb.float32)
def put_byte(b: Any, address: Any, value: Any) -> Any:
    """One float32, rounded to a signed byte."""
    whole = _call(b, "llvm.fptosi.sat.i8.f32", _I8, _call(b, "llvm.rint.f32", _F32, value))
    b.store(whole, _at(b, address, _I8), align=1)


@_instruction(nb.intp, nb.intp)
def get_int(b: Any, address: Any) -> Any:
    """One int64."""
    return b.load(_at(b, address, _I64), align=8)


@_instruction(nb.intp, nb.intp)
def get_short_int(b: Any, address: Any) -> Any:
    """One int32."""
    return b.sext(b.load(_at(b, address, _I32), align=4), _I64)


# Arithmetic


@_instruction(Floats, nb.float32)
def spread(b: Any, value: Any) -> Any:
    """A number in all lanes."""
    return _spread(b, value)


@_instruction(Floats, Floats, Floats, Floats)
def fma(b: Any, x: Any, y: Any, z: Any) -> Any:
    """x y + z, rounded once."""
    return _call(b, "llvm.fma.v16f32", _FLOATS, x, y, z)


@_instruction(Floats, Floats, Floats)
def _add(b: Any, x: Any, y: Any) -> Any:
    return b.fadd(x, y)


@_instruction(Floats, Floats, Floats)
def _subtract(b: Any, x: Any, y: Any) -> Any:
    return b.fsub(x, y)


@_instruction(Floats, Floats, Floats)
def _multiply(b: Any, x: Any, y: Any) -> Any:
    return b.fmul(x, y)


@_instruction(Floats, Floats, Floats)
def _divide(b: Any, x: Any, y: Any) -> Any:
    return b.fdiv(x, y)


@_instruction(Floats, Floats, Floats)
def larger(b: Any, x: Any, y: Any) -> Any:
    """Lane by lane; no number where one of them is none."""
    return _call(b, "llvm.maximum.v16f32", _FLOATS, x, y)


@_instruction(Floats, Floats, Floats)
def smaller(b: Any, x: Any, y: Any) -> Any:
    """Lane by lane; no number where one of them is none."""
    return _call(b, "llvm.minimum.v16f32", _FLOATS, x, y)


@_instruction(Floats, Floats)
def magnitude(b: Any, x: Any) -> Any:
    """Without the sign."""
    return _call(b, "llvm.fabs.v16f32", _FLOATS, x)


@_instruction(Floats, Floats)
def nearest(b: Any, x: Any) -> Any:
    """Rounded to a whole number, halves to the even one."""
    return _call(b, "llvm.rint.v16f32", _FLOATS, x)


@_instruction(Ints, Floats)
def to_ints(b: Any, x: Any) -> Any:
    """Whole numbers; those that do not fit become any."""
    return _call(b, "llvm.fptosi.sat.v16i32.v16f32", _INTS, x)


@_instruction(Floats, Ints)
def to_floats(b: Any, x: Any) -> Any:
    """Whole numbers as float32."""
    return b.sitofp(x, _FLOATS)


@_instruction(Floats, Floats, Ints)
def times_power(b: Any, x: Any, n: Any) -> Any:
    """x 2^n, for n from -126 to 127."""
    power = b.shl(b.add(n, _same(_INTS, 127)), _same(_INTS, 23))
    return b.fmul(x, b.bitcast(power, _FLOATS))


@_instruction(Floats, Floats, Floats)
def with_sign(b: Any, x: Any, sign: Any) -> Any:
    """The magnitude of x with the sign of the other."""
    return _call(b, "llvm.copysign.v16f32", _FLOATS, x, sign)


@_instruction(Floats, Floats, nb.intp)
def first_lanes(b: Any, x: Any, count: Any) -> Any:
    """The first `count` lanes; minus infinity in the others."""
    numbers = ir.Constant(_INTS, list(range(LANES)))
    inside = b.icmp_signed("<", numbers, _spread(b, b.trunc(count, _I32)))
    return b.select(inside, x, ir.Constant(_FLOATS, [float("-inf")] * LANES))


@_instruction(Floats, Floats, nb.intp)
def without_first(b: Any, x: Any, count: Any) -> Any:
    """Minus infinity in the first `count` lanes; x in the others."""
    numbers = ir.Constant(_INTS, list(range(LANES)))
    outside = b.icmp_signed("<", numbers, _spread(b, b.trunc(count, _I32)))
    return b.select(outside, ir.Constant(_FLOATS, [float("-inf")] * LANES), x)


@_instruction(Floats, Floats, Floats, Floats)
def keep_from(b: Any, value: Any, x: Any, bound: Any) -> Any:
    """The value where x is at least the bound, 0 where it is less, and x where it is no number."""
    kept = b.select(b.fcmp_ordered(">=", x, bound), value, _same(_FLOATS, 0))
    return b.select(b.fcmp_unordered("uno", x, x), x, kept)


@_instruction(nb.float32, nb.float32)
def root(b: Any, x: Any) -> Any:
    """The square root."""
    return _call(b, "llvm.sqrt.f32", _F32, x)


@_instruction(nb.float32, Floats)
def total(b: Any, x: Any) -> Any:
    """The sum of the lanes, halves upon halves."""
    return _fold(b, x, b.fadd)


@_instruction(nb.float32, Floats)
def largest(b: Any, x: Any) -> Any:
    """The largest of the lanes; no number where one of them is none."""
    return _fold(b, x, lambda p, q: _call(b, f"llvm.maximum.v{p.type.count}f32", p.type, p, q))


@_instruction(Ints, Ints, Ints)
def _add_ints(b: Any, x: Any, y: Any) -> Any:
    return b.add(x, y)


@_instruction(nb.int32, Ints)
def total_ints(b: Any, x: Any) -> Any:
    """The sum of the lanes."""
    return _fold(b, x, b.add)


# Threads that wait for one another


@_instruction(nb.intp, nb.intp, nb.intp)
def add_atomic(b: Any, address: Any, value: Any) -> Any:
    """Adds to an int64 that other threads add to as well; gives what was there before."""
    return b.atomic_rmw("add", _at(b, address, _I64), value, "seq_cst")


@_instruction(nb.intp, nb.intp)
def get_atomic(b: Any, address: Any) -> Any:
    """An int64 that another thread writes; what it wrote before can be read after."""
    return b.load_atomic(_at(b, address, _I64), "acquire", 8)


@_instruction(nb.void)
def pause(b: Any) -> Any:
    """Tells the processor that this thread only waits."""
    triple = b.module.triple
    if triple.startswith(("x86_64", "i686")):
        _call(b, "llvm.x86.sse2.pause", ir.VoidType())
    elif triple.startswith(("aarch64", "arm64")):
        _call(b, "llvm.aarch64.hint", ir.VoidType(), ir.Constant(_I32, 1))


@_instruction(nb.void)
def give_way(b: Any) -> Any:
    """Lets another thread have the core, where the system has a call for it."""
    if sys.platform != "win32":
        _call(b, "sched_yield", _I32)


def _fold(b: Any, x: Any, join: Callable[[Any, Any], Any]) -> Any:
    """One number from sixteen: the upper half joined to the lower, four times."""
    width = LANES
    while width > 1:
        width //= 2
        numbers = ir.VectorType(_I32, width)
        low = ir.Constant(numbers, list(range(width)))
        high = ir.Constant(numbers, list(range(width, 2 * width)))
        x = join(b.shuffle_vector(x, x, low), b.shuffle_vector(x, x, high))
    return b.extract_element(x, ir.Constant(_I32, 0))


def _operator(function: Any, kind: nb.Type, instruction: Any) -> None:
    def run(x: Any, y: Any) -> Any:
        return instruction(x, y)

    @overload(function, inline="always")
    def choose(x: Any, y: Any) -> Any:
        return run if x == kind and y == kind else None


_operator(operator.add, Floats, _add)
_operator(operator.sub, Floats, _subtract)
_operator(operator.mul, Floats, _multiply)
_operator(operator.truediv, Floats, _divide)
_operator(operator.add, Ints, _add_ints)
