"""Writes onnx_glue_{9,22}.onnx and .npz: one graph over every operator that isn't recurrent, in an
old and a new operator set, with what onnxruntime makes of it.

    pip install onnx==1.23.2 onnxruntime==1.31.1 numpy && python tests/goldens/onnx_glue.py
"""

import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

FOLDER = pathlib.Path(__file__).parent


class Graph:
    def __init__(self):
        self.nodes, self.constants, self.outputs = [], [], []

    def constant(self, value):
        name = f"k{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def ints(self, *values):
        return self.constant(np.array(values, dtype=np.int64))

    def add(self, operator, inputs, kind=TensorProto.FLOAT, count=1, **attributes):
        names = [f"{operator}_{len(self.outputs) + k}" for k in range(count)]
        self.nodes.append(helper.make_node(operator, inputs, names, **attributes))
        self.outputs += [helper.make_tensor_value_info(name, kind, None) for name in names]
        return names[0]


def both(g, random):
    """What is the same in both operator sets."""
    f = lambda *shape: g.constant(random.standard_normal(shape).astype(np.float32))
    i64 = TensorProto.INT64
    for operator in ["Relu", "Tanh", "Sigmoid", "LeakyRelu", "Elu", "HardSigmoid", "Softsign", "Softplus", "Selu"]:
        g.add(operator, ["x"])
    for operator, attributes in [
        ("LeakyRelu", {"alpha": 0.3}), ("Elu", {"alpha": 0.7}), ("Selu", {"alpha": 1.5, "gamma": 0.9}),
        ("HardSigmoid", {"alpha": 0.4, "beta": 0.1}), ("Softmax", {"axis": 1}), ("LogSoftmax", {"axis": 2}),
        ("Transpose", {"perm": [2, 0, 1]}), ("Transpose", {}), ("Identity", {}), ("Softmax", {}), ("LogSoftmax", {}),
    ]:
        g.add(operator, ["x"], **attributes)
    for operator in ["Add", "Sub", "Mul", "Div"]:
        g.add(operator, ["x", f(3, 1)])
        g.add(operator, [f(5, 1, 1, 4), "x"])
        g.add(operator, [g.ints(7, -7, 9), g.ints(2)], i64)
    g.add("PRelu", ["x", f(3, 1)])
    square = g.add("Mul", ["x", "x"])
    g.add("Sqrt", [square])
    g.add("Pow", [square, g.constant(np.float32(0.3))])
    g.add("Pow", ["x", g.constant(np.float32(2))])
    g.add("MatMul", ["x", f(4, 5)])
    g.add("MatMul", ["x", f(2, 4, 5)])
    g.add("MatMul", ["x", f(6, 1, 4, 5)])
    g.add("MatMul", [f(3), "x"])
    g.add("MatMul", ["x", f(4)])
    g.add("MatMul", [f(4), f(4)])
    g.add("Gemm", [f(4, 3), f(5, 4), f(5)], alpha=0.5, beta=2.0, transA=1, transB=1)
    g.add("Gemm", [f(3, 4), f(4, 5), f(3, 1)])
    g.add("Concat", ["x", f(2, 1, 4), "x"], axis=1)
    g.add("Concat", ["x", "x"], axis=-1)
    g.add("Gather", ["x", g.ints(2, 0, -1)], axis=1)
    g.add("Gather", ["x", g.constant(np.array([[1, 0], [1, 1]]))])
    g.add("Gather", ["x", g.constant(np.int64(-1))], axis=2)
    g.add("Shape", ["x"], i64)
    g.add("Reshape", ["x", g.ints(0, -1)])
    g.add("Reshape", ["x", g.ints(4, 3, 2)])
    g.add("Expand", [f(3, 1), g.ints(2, 1, 4)])
    g.add("ConstantOfShape", [g.ints(2, 3)])
    g.add("ConstantOfShape", [g.ints(2)], i64, value=numpy_helper.from_array(np.array([5])))
    g.add("Cast", ["x"], i64, to=TensorProto.INT64)
    g.add("Cast", ["x"], TensorProto.BOOL, to=TensorProto.BOOL)
    g.add("Cast", [g.ints(3, 0)], to=TensorProto.FLOAT)
    truth = g.add("Equal", [g.ints(1, 2, 3), g.ints(1, 5, 3)], TensorProto.BOOL)
    g.add("Not", [truth], TensorProto.BOOL)
    g.add("Conv", ["x", f(6, 3, 3), f(6)], pads=[1, 0])
    g.add("Conv", ["x", f(6, 1, 2)], group=3, dilations=[2], strides=[2], kernel_shape=[2])
    image = f(2, 4, 5, 6)
    g.add("Conv", [image, f(6, 2, 3, 2), f(6)], group=2, strides=[2, 1], pads=[1, 0, 0, 1], dilations=[1, 2])
    for auto in ["SAME_UPPER", "SAME_LOWER", "VALID"]:
        g.add("Conv", [image, f(2, 4, 3, 2)], auto_pad=auto, strides=[2, 2])


def new(g, random):
    g.add("ThresholdedRelu", ["x"], alpha=0.2)
    g.add("Celu", ["x"], alpha=1.3)
    g.add("HardSwish", ["x"])
    g.add("Mish", ["x"])
    g.add("Clip", ["x", g.constant(np.float32(-0.5)), g.constant(np.float32(0.5))])
    g.add("Clip", ["x", "", g.constant(np.float32(0.5))])
    g.add("Squeeze", [g.add("Unsqueeze", ["x", g.ints(0, -1)]), g.ints(-1)])
    g.add("Squeeze", [g.add("Unsqueeze", ["x", g.ints(2)])])
    g.add("Slice", ["x", g.ints(-1, 0), g.ints(-9, 3), g.ints(2, 1), g.ints(-2, 2)])
    g.add("Slice", ["x", g.ints(1), g.ints(2**62)])
    g.add("Split", ["x"], count=2, axis=1, num_outputs=2)
    g.add("Split", ["x", g.ints(1, 2)], count=2, axis=1)
    for mode in ["constant", "reflect", "edge", "wrap"]:
        g.add("Pad", ["x", g.ints(0, 1, 2, 0, 2, 3)], mode=mode)
    g.add("Pad", ["x", g.ints(-1, 2), g.constant(np.float32(7)), g.ints(-1)])
    g.add("ReduceMean", ["x", g.ints(0, 2)], keepdims=0)
    g.add("ReduceMean", ["x"])
    g.add("ReduceMean", ["x"], noop_with_empty_axes=1)
    g.add("Shape", ["x"], TensorProto.INT64, start=1, end=-1)
    g.add("Reshape", [g.constant(np.zeros((0, 3), np.float32)), g.ints(3, 0)], allowzero=1)
    g.add("Constant", [], value_floats=[1.5, 2.5])
    g.add("Constant", [], TensorProto.INT64, value_int=3)
    # Both branches see the values around them.
    size = g.add("Gather", [g.add("Shape", ["x"], TensorProto.INT64), g.constant(np.int64(0))], TensorProto.INT64)
    for wanted in [2, 9]:
        condition = g.add("Equal", [size, g.constant(np.int64(wanted))], TensorProto.BOOL)
        branch = lambda operator, tag: helper.make_graph(
            [helper.make_node(operator, ["x", "inner" + tag], ["made" + tag])], "branch", [],
            [helper.make_tensor_value_info("made" + tag, TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.float32(3), "inner" + tag)])
        g.add("If", [condition], then_branch=branch("Mul", f"t{wanted}"), else_branch=branch("Add", f"e{wanted}"))


def old(g, random):
    g.add("Clip", ["x"], min=-0.25, max=0.5)
    g.add("Squeeze", [g.add("Unsqueeze", ["x"], axes=[0, 2])], axes=[0])
    g.add("Slice", ["x"], starts=[-3, 1], ends=[9, 2], axes=[2, 0])
    g.add("Split", ["x"], count=2, axis=1, split=[2, 1])
    g.add("Split", ["x"], count=2, axis=2)
    g.add("Pad", ["x"], mode="constant", pads=[0, 1, 0, 1, 0, 2], value=1.5)
    g.add("Pad", ["x"], mode="reflect", pads=[0, 0, 2, 0, 2, 0])
    g.add("ReduceMean", ["x"], axes=[1])
    g.add("Softmax", ["x"], axis=0)


for opset, special in [(9, old), (22, new)]:
    random = np.random.default_rng(opset)
    g = Graph()
    both(g, random)
    special(g, random)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 4])
    graph = helper.make_graph(g.nodes, "glue", [x], g.outputs, g.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    path = FOLDER / f"onnx_glue_{opset}.onnx"
    onnx.save(model, path)
    data = {"x": random.standard_normal((2, 3, 4)).astype(np.float32)}
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    names = [output.name for output in g.outputs]
    values = onnxruntime.InferenceSession(path, options).run(names, data)
    np.savez(FOLDER / f"onnx_glue_{opset}.npz", **data, **dict(zip(names, values)))
    print(path.name, len(names), "outputs")
