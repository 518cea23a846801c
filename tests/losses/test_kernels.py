"""Each kernel and its derivative against the authors' formulas."""

import keras
import numpy as np
import pytest

from tests.losses.gradients import float64, value_and_gradient
from tests.losses.naive import DERIVATIVES, KERNELS
from tfrs_croloss import CROLoss
from tfrs_croloss.losses import Kernel, LogKernel, MultiHinge, Sigmoid, SplitSigmoid, kernels

X = np.concatenate([np.linspace(-12, 12, 97), [-30.0, 20.5, 25.0, 30.0]]) + 0.01
to_numpy = keras.ops.convert_to_numpy


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_are_the_formulas(name):
    with float64():
        kernel, x = kernels.get(name), keras.ops.convert_to_tensor(X, dtype="float64")
        expected = [KERNELS[name](value) for value in X]
        np.testing.assert_allclose(to_numpy(kernel(x)), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", DERIVATIVES)
def test_derivatives_are_exact_in_the_tails_too(name):
    expected = [DERIVATIVES[name](value) for value in X]
    for dtype, tolerance in (("float32", 1e-5), ("float64", 1e-12)):
        with float64():
            x = keras.ops.convert_to_tensor(X, dtype=dtype)
            derivative = to_numpy(kernels.get(name).derivative(x))
        assert derivative.dtype == dtype
        np.testing.assert_allclose(derivative, expected, rtol=tolerance)


@pytest.mark.parametrize(
    "kernel", [SplitSigmoid(0.5, 1.0), MultiHinge((-1.0, 0.0, 2.0), (0.5, 0.0, 2.0))]
)
def test_derivatives_are_the_slopes(kernel):
    with float64():
        x = keras.ops.convert_to_tensor(X, dtype="float64")
        step = 1e-6
        slope = (to_numpy(kernel(x + step)) - to_numpy(kernel(x - step))) / (2 * step)
        np.testing.assert_allclose(to_numpy(kernel.derivative(x)), slope, rtol=1e-6, atol=1e-9)


def test_two_equal_halves_are_the_sigmoid():
    x = keras.ops.convert_to_tensor(X, dtype="float32")
    halves = SplitSigmoid(below=1.0, above=1.0)
    np.testing.assert_allclose(to_numpy(halves(x)), to_numpy(Sigmoid()(x)))


def test_the_backend_differentiates_functions():
    with float64():
        x = keras.ops.convert_to_tensor(X, dtype="float64")
        kernel = kernels.get(lambda x: keras.ops.square(keras.ops.relu(x + 1)))
        expected = 2 * np.maximum(0, X + 1)
        np.testing.assert_allclose(to_numpy(kernel.derivative(x)), expected, rtol=1e-12)
        constant = kernels.get(keras.ops.ones_like)
        assert (to_numpy(constant.derivative(x)) == 0).all()


@pytest.mark.parametrize("bad", [lambda x: 1.0, keras.ops.sum, lambda x: x[:1]])
def test_a_function_that_is_not_elementwise_is_named(bad):
    with pytest.raises(ValueError, match="`kernel` must be an elementwise function"):
        kernels.get(bad)(keras.ops.convert_to_tensor(X, dtype="float32"))


def test_functions_may_give_another_dtype():
    x = keras.ops.convert_to_tensor(X, dtype="float32")
    count = kernels.get(lambda x: x > 0)(x)
    np.testing.assert_array_equal(to_numpy(count), (X > 0).astype("float32"))


def test_an_unregistered_class_says_so():
    class Mine(Sigmoid):
        pass

    with pytest.raises(ValueError, match="cannot be saved.*Decorate the class"):
        kernels.serialize(Mine())


def test_a_log_kernel_gives_the_kernel():
    class Square(LogKernel):
        """e^(2x)."""

        def log(self, x):
            return 2 * x

        def log_derivative(self, x):
            return 2.0

    x = keras.ops.convert_to_tensor([0.5, -1.0], dtype="float32")
    np.testing.assert_allclose(to_numpy(Square()(x)), np.exp([1.0, -2.0]), rtol=1e-6)
    np.testing.assert_allclose(to_numpy(Square().derivative(x)), 2 * np.exp([1.0, -2.0]), rtol=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("masked", [-np.inf, -3.4e36])
def test_a_kernel_may_be_undefined_at_masked_scores(masked, compiled):
    class LogOfSoftplus(LogKernel):
        """Its derivative far below is 0 / 0."""

        def log(self, x):
            return keras.ops.log(keras.ops.softplus(x))

        def log_derivative(self, x):
            return keras.ops.sigmoid(x) / keras.ops.softplus(x)

    labels = [[1, 0, 0, 0], [0, 1, 0, 0]]
    scores = [[0.5, 0.1, masked, -0.3], [masked, 0.2, 0.4, masked]]
    both = [
        value_and_gradient(CROLoss(kernel), labels, scores, "float32", compiled)
        for kernel in (LogOfSoftplus(), "softplus")
    ]
    for by_logarithm, plain in zip(*both, strict=True):
        np.testing.assert_allclose(by_logarithm, plain, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_logarithm_is_exact_for_small_numbers_too(dtype):
    z = np.concatenate([np.linspace(0, 1, 10001), np.logspace(-30, 0, 1000)]).astype(dtype)
    with float64():
        found = to_numpy(kernels._log_of_one_plus(keras.ops.convert_to_tensor(z)))
    np.testing.assert_allclose(found, np.log1p(z), rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", kernels.BY_NAME)
def test_round_trip(name):
    kernel = kernels.get(name)
    copy = kernels.get(kernels.serialize(kernel))
    assert isinstance(copy, Kernel)
    assert type(copy) is type(kernel)
    assert copy.get_config() == kernel.get_config()


def test_a_function_that_is_not_registered_says_so():
    with pytest.raises(ValueError, match="cannot be saved.*register_keras_serializable"):
        kernels.serialize(kernels.get(lambda x: x))


def test_a_function_of_keras_needs_no_registration():
    copy = kernels.get(kernels.serialize(kernels.get(keras.ops.softplus)))
    x = keras.ops.convert_to_tensor([-1.0, 2.0])
    np.testing.assert_allclose(to_numpy(copy(x)), to_numpy(keras.ops.softplus(x)), rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kernels.Hinge("wide"), "`margin` must be a finite number. Received: 'wide'"),
        (lambda: SplitSigmoid(above=0), "`above` must be a positive number. Received: 0"),
        (lambda: kernels.SigmoidHinge(-1), "`slope` must be a non-negative number. Received: -1"),
        (lambda: MultiHinge((0.1,), (1.0, 2.0)), "of one length, at least 1"),
        (lambda: MultiHinge((), ()), "of one length, at least 1"),
        (lambda: MultiHinge((0.5, 0.5), (1, 1)), "`margins` must increase"),
        (lambda: MultiHinge((0.5,), (-1.0,)), "`weights` must be a non-negative number"),
        (lambda: kernels.get("gauss"), "exponential, softplus, hinge.*sigmoid.*Received: 'gauss'"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
